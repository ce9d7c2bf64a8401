"""Geometry: which inputs a window of a convolution or a pooling sees."""

import dataclasses

from tfbnn.export.c_source.text import Function

WINDOW = Function(
    "window",
    """\
/* A window that goes over rows and columns; a sequence is a picture of one row. */
typedef struct {
    int height, width, channels;            /* of the input */
    int rows, columns;                      /* of the output */
    int window_height, window_width;
    int stride_height, stride_width;
    int dilation_height, dilation_width;
    int top, left;                          /* padding before the input */
} window;
""",
)

OFFSET = Function(
    "offset",
    """\
/* Place of one element of the window in the input, -1 if it is in the padding. */
static int offset(const window *w, int row, int column, int i, int j)
{
    const int y = row * w->stride_height + i * w->dilation_height - w->top;
    const int x = column * w->stride_width + j * w->dilation_width - w->left;
    if (y < 0 || y >= w->height || x < 0 || x >= w->width) {
        return -1;
    }
    return (y * w->width + x) * w->channels;
}
""",
    (WINDOW,),
)

GATHER = Function(
    "gather",
    """\
/* Copy `count` channels of what the window sees at one place, zero in the padding. */
static void gather(const window *w, int row, int column, int first, int count,
                   const float *input, float *patch)
{
    for (int i = 0; i < w->window_height; i++) {
        for (int j = 0; j < w->window_width; j++) {
            const int from = offset(w, row, column, i, j);
            for (int channel = 0; channel < count; channel++) {
                *patch++ = from < 0 ? 0.0f : input[from + first + channel];
            }
        }
    }
}
""",
    (OFFSET,),
)


@dataclasses.dataclass(frozen=True)
class Window:
    """A window over `(height, width, channels)`; each pair is that of rows and columns.

    `dilation` is the spacing of its elements, `before` the padding at the top and on the left.
    """

    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int]
    size: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]

    @property
    def is_point(self) -> bool:
        """Whether each output sees one place, its own."""
        pairs = (self.size, self.strides, self.dilation)
        return all(pair == (1, 1) for pair in pairs) and self.before == (0, 0)

    def literal(self) -> str:
        """The C constant."""
        pairs = (self.output_shape, self.size, self.strides, self.dilation, self.before)
        numbers = (*self.input_shape, *(number for pair in pairs for number in pair))
        return f"{{{', '.join(map(str, numbers))}}}"


def window_of(
    input_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    size: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: str,
) -> Window:
    """The window of a layer over one or two axes, channels last.

    Shapes are `(*spatial, channels)`; `size`, `strides` and `dilation` have a number for each
    spatial axis; the padding is `"valid"`, `"same"` or `"causal"`.

    Example:

    >>> window_of((5, 2), (5, 4), (3,), (1,), (2,), "causal").before
    (0, 4)
    """
    spatial = list(zip(input_shape, output_shape, size, strides, dilation, strict=False))
    spatial = spatial[: len(size)]
    before = tuple(_before(padding, *axis) for axis in spatial)
    axes = [*zip(*spatial, strict=True), before]
    height_width, output, size, strides, dilation, before = map(tuple, axes)
    if len(size) == 1:
        height_width, output, size = (1, *height_width), (1, *output), (1, *size)
        strides, dilation, before = (1, *strides), (1, *dilation), (0, *before)
    return Window((*height_width, input_shape[-1]), output, size, strides, dilation, before)


def _before(padding: str, inputs: int, outputs: int, size: int, stride: int, dilation: int) -> int:
    reach = (size - 1) * dilation
    if padding == "causal":
        return reach
    if padding == "same":
        return max((outputs - 1) * stride + reach + 1 - inputs, 0) // 2
    return 0
