"""C source: a network as C99 that needs nothing but libm.

* `exporter`: `tfbnn.export.c`.
* `layers`, `translator`: from the layers of Keras to the operations of a program.
* `program`, `buffers`: operations, values, and one scratch in which values share room.
* `linear`, `products`, `geometry`, `activations`, `pooling`, `arrangement`, `normalisation`,
  `answer_text`: the operations and their C.
* `weights`: how kernels are stored.
* `text`, `source`, `check_program`: the files.
* `c_compiler`, `agreement`: running them, and the comparison with Keras.

Most C functions take variances as a pointer that may be NULL: they then compute with plain
numbers.
"""

from tfbnn.export.c_source.exporter import c as c
