"""Pooling in C: the largest or the mean of what a window sees, for each channel."""

import dataclasses
import math

from tfbnn.export.c_source.activations import MAXIMUM
from tfbnn.export.c_source.geometry import OFFSET, Window
from tfbnn.export.c_source.program import AbstractUnary, Places
from tfbnn.export.c_source.text import Function

# Channels that are compared at a time, but for large windows (global pooling), which would take
# much of a small device's memory.
_LANES = 8
_LARGE_WINDOW = 32

_MAXIMUM_POOL = Function(
    "maximum_pool",
    """\
/* The larger of `a` and `b` in place of `a`, of some channels. Padding is -HUGE_VALF in all
   channels and never wins, so the first channel tells. Without variances, pointers are NULL. */
static void larger_ones(int lanes, float *a, float *a_variance,
                        const float *b, const float *b_variance)
{
    if (a_variance && a[0] > -HUGE_VALF && b[0] > -HUGE_VALF) {
        for (int i = 0; i < lanes; i++) {
            float mean, variance;
            maximum(a[i], a_variance[i], b[i], b_variance[i], &mean, &variance);
            a[i] = mean;
            a_variance[i] = variance;
        }
    } else {
        for (int i = 0; i < lanes; i++) {
            if (a_variance) {
                a_variance[i] = b[i] > a[i] ? b_variance[i] : a_variance[i];
            }
            a[i] = b[i] > a[i] ? b[i] : a[i];
        }
    }
}

/* The largest in each window. A place is compared with the one half of the list further on, until
   one is left. */
static void maximum_pool(const window *w, const float *mean, const float *variance,
                         float *output_mean, float *output_variance, int stride, float *work)
{
    float *const spread = variance ? work + w->window_height * w->window_width * stride : NULL;
    for (int place = 0; place < w->rows * w->columns; place++) {
        for (int start = 0; start < w->channels; start += stride) {
            const int rest = w->channels - start, lanes = rest < stride ? rest : stride;
            int count = 0;
            for (int i = 0; i < w->window_height; i++) {
                for (int j = 0; j < w->window_width; j++, count++) {
                    const int from = offset(w, place / w->columns, place % w->columns, i, j);
                    for (int k = 0; k < lanes; k++) {
                        const int index = count * stride + k;
                        work[index] = from < 0 ? -HUGE_VALF : mean[from + start + k];
                        if (variance) {
                            spread[index] = from < 0 ? 0.0f : variance[from + start + k];
                        }
                    }
                }
            }
            while (count > 1) {
                const int half = count / 2;
                for (int a = 0, b = half; a < half; a++, b++) {
                    larger_ones(lanes, work + a * stride, variance ? spread + a * stride : NULL,
                                work + b * stride, variance ? spread + b * stride : NULL);
                }
                if (count % 2) {
                    for (int k = 0; k < lanes; k++) {
                        work[half * stride + k] = work[2 * half * stride + k];
                        if (variance) {
                            spread[half * stride + k] = spread[2 * half * stride + k];
                        }
                    }
                }
                count -= half;
            }
            for (int k = 0; k < lanes; k++) {
                output_mean[start + k] = work[k];
                if (variance) {
                    output_variance[start + k] = spread[k];
                }
            }
        }
        output_mean += w->channels;
        output_variance = variance ? output_variance + w->channels : NULL;
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
class Pooling(AbstractUnary):
    """Pooling by a window; the kind is `"maximum"` or `"average"`."""

    window: Window
    kind: str

    @property
    def workspace(self) -> int:
        if self.kind == "average":
            return 0
        return math.prod(self.window.size) * self._lanes * (1 + self.value.is_random)

    @property
    def _lanes(self) -> int:
        is_large = math.prod(self.window.size) > _LARGE_WINDOW
        return 1 if is_large else min(_LANES, self.value.shape[-1])

    def functions(self) -> tuple[Function, ...]:
        return (_MAXIMUM_POOL if self.kind == "maximum" else _AVERAGE_POOL,)

    def statement(self, places: Places) -> str:
        work = f", {self._lanes}, {places.workspace}" if self.kind == "maximum" else ""
        moments = f"{places.moments(self.value)}, {places.moments(self.output)}"
        return (
            f"{{\n    const window w = {self.window.literal()};\n"
            f"    {self.kind}_pool(&w, {moments}{work});\n}}"
        )
