"""Pooling in C: the largest or the mean of what a window sees, for each channel."""

import dataclasses

from tfbnn.export.c_source.activations import MAXIMUM
from tfbnn.export.c_source.geometry import OFFSET, Window
from tfbnn.export.c_source.program import AbstractOperation, Places, Value
from tfbnn.export.c_source.text import Function

_MAXIMUM_POOL = Function(
    "maximum_pool",
    """\
/* The largest in each window. Normals are compared with those half a list on, until one is left. */
static void maximum_pool(const window *w, const float *mean, const float *variance,
                         float *output_mean, float *output_variance, float *work)
{
    float *const work_variance = work + w->window_height * w->window_width;
    for (int place = 0; place < w->rows * w->columns; place++) {
        for (int channel = 0; channel < w->channels; channel++) {
            /* What lies in the padding has no say, but keeps its place in the tree. */
            int count = 0;
            for (int i = 0; i < w->window_height; i++) {
                for (int j = 0; j < w->window_width; j++) {
                    const int from = offset(w, place / w->columns, place % w->columns, i, j);
                    work[count] = from < 0 ? -HUGE_VALF : mean[from + channel];
                    work_variance[count] =
                        from < 0 || !variance ? 0.0f : variance[from + channel];
                    count++;
                }
            }
            for (; count > 1; count = (count + 1) / 2) {
                for (int pair = 0; pair < count / 2; pair++) {
                    const int a = pair, b = pair + count / 2;
                    if (variance && work[a] > -HUGE_VALF && work[b] > -HUGE_VALF) {
                        float m, v;
                        maximum(work[a], work_variance[a], work[b], work_variance[b], &m, &v);
                        work[pair] = m;
                        work_variance[pair] = v;
                    } else {
                        const int larger_one = work[a] > work[b] ? a : b;
                        work[pair] = work[larger_one];
                        work_variance[pair] = work_variance[larger_one];
                    }
                }
                if (count % 2) {
                    work[count / 2] = work[count - 1];
                    work_variance[count / 2] = work_variance[count - 1];
                }
            }
            *output_mean++ = work[0];
            if (variance) {
                *output_variance++ = work_variance[0];
            }
        }
    }
}
""",
    (OFFSET, MAXIMUM),
)

_AVERAGE_POOL = Function(
    "average_pool",
    """\
/* The mean of each window, without the padding; normals are independent. */
static void average_pool(const window *w, const float *mean, const float *variance,
                         float *output_mean, float *output_variance)
{
    for (int place = 0; place < w->rows * w->columns; place++) {
        for (int channel = 0; channel < w->channels; channel++) {
            float sum = 0.0f, spread = 0.0f, count = 0.0f;
            for (int i = 0; i < w->window_height; i++) {
                for (int j = 0; j < w->window_width; j++) {
                    const int from = offset(w, place / w->columns, place % w->columns, i, j);
                    if (from >= 0) {
                        sum += mean[from + channel];
                        spread += variance ? variance[from + channel] : 0.0f;
                        count += 1.0f;
                    }
                }
            }
            *output_mean++ = sum / count;
            if (variance) {
                *output_variance++ = spread / (count * count);
            }
        }
    }
}
""",
    (OFFSET,),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Pooling(AbstractOperation):
    """Pooling by a window.

    Attributes:
        kind: `"maximum"` or `"average"`.
    """

    value: Value
    output: Value
    window: Window
    kind: str

    @property
    def inputs(self) -> tuple[Value, ...]:
        return (self.value,)

    @property
    def workspace(self) -> int:
        return 2 * self.window.size[0] * self.window.size[1] if self.kind == "maximum" else 0

    def functions(self) -> tuple[Function, ...]:
        return (_MAXIMUM_POOL if self.kind == "maximum" else _AVERAGE_POOL,)

    def statement(self, places: Places) -> str:
        work = f", {places.workspace}" if self.kind == "maximum" else ""
        moments = f"{places.moments(self.value)}, {places.moments(self.output)}"
        return (
            f"{{\n    const window w = {self.window.literal()};\n"
            f"    {self.kind}_pool(&w, {moments}{work});\n}}"
        )
