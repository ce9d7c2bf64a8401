"""Pooling in C: the largest or the mean of what a window sees, for each channel."""

import dataclasses

from tfbnn.export.c_source.activations import MAXIMUM
from tfbnn.export.c_source.geometry import OFFSET, Window
from tfbnn.export.c_source.program import AbstractOperation, Places, Value
from tfbnn.export.c_source.text import Function

# Channels that are compared at a time.
_LANES = 8

_MAXIMUM_POOL = Function(
    "maximum_pool",
    f"""\
enum {{ LANES = {_LANES} }};

/* The larger of `a` and `b` in place of `a`, of some channels. -HUGE_VALF is in the padding, with
   all its channels, and has no say. */
static void larger_ones(int lanes, int is_random, float *a, float *a_variance,
                        const float *b, const float *b_variance)
{{
    if (is_random && a[0] > -HUGE_VALF && b[0] > -HUGE_VALF) {{
        for (int i = 0; i < lanes; i++) {{
            float mean, variance;
            maximum(a[i], a_variance[i], b[i], b_variance[i], &mean, &variance);
            a[i] = mean;
            a_variance[i] = variance;
        }}
    }} else {{
        for (int i = 0; i < lanes; i++) {{
            a_variance[i] = b[i] > a[i] ? b_variance[i] : a_variance[i];
            a[i] = b[i] > a[i] ? b[i] : a[i];
        }}
    }}
}}

/* The largest in each window. A place is compared with the one half of the list further on, until
   one is left. */
static void maximum_pool(const window *w, const float *mean, const float *variance,
                         float *output_mean, float *output_variance, float *work)
{{
    float *const work_variance = work + w->window_height * w->window_width * LANES;
    for (int place = 0; place < w->rows * w->columns; place++) {{
        for (int start = 0; start < w->channels; start += LANES) {{
            const int rest = w->channels - start, lanes = rest < LANES ? rest : LANES;
            int count = 0;
            for (int i = 0; i < w->window_height; i++) {{
                for (int j = 0; j < w->window_width; j++, count++) {{
                    const int from = offset(w, place / w->columns, place % w->columns, i, j);
                    for (int k = 0; k < lanes; k++) {{
                        const int index = count * LANES + k;
                        work[index] = from < 0 ? -HUGE_VALF : mean[from + start + k];
                        work_variance[index] =
                            from < 0 || !variance ? 0.0f : variance[from + start + k];
                    }}
                }}
            }}
            while (count > 1) {{
                const int half = count / 2;
                for (int a = 0, b = half; a < half; a++, b++) {{
                    larger_ones(lanes, variance != NULL, work + a * LANES,
                                work_variance + a * LANES, work + b * LANES,
                                work_variance + b * LANES);
                }}
                if (count % 2) {{
                    for (int k = 0; k < lanes; k++) {{
                        work[half * LANES + k] = work[2 * half * LANES + k];
                        work_variance[half * LANES + k] = work_variance[2 * half * LANES + k];
                    }}
                }}
                count -= half;
            }}
            for (int k = 0; k < lanes; k++) {{
                output_mean[start + k] = work[k];
                if (variance) {{
                    output_variance[start + k] = work_variance[k];
                }}
            }}
        }}
        output_mean += w->channels;
        output_variance = variance ? output_variance + w->channels : NULL;
    }}
}}
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
        height, width = self.window.size
        return 2 * height * width * _LANES if self.kind == "maximum" else 0

    def functions(self) -> tuple[Function, ...]:
        return (_MAXIMUM_POOL if self.kind == "maximum" else _AVERAGE_POOL,)

    def statement(self, places: Places) -> str:
        work = f", {places.workspace}" if self.kind == "maximum" else ""
        moments = f"{places.moments(self.value)}, {places.moments(self.output)}"
        return (
            f"{{\n    const window w = {self.window.literal()};\n"
            f"    {self.kind}_pool(&w, {moments}{work});\n}}"
        )
