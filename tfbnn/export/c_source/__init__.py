"""C source: a network as C99 that needs nothing but libm.

* `exporter`: `tfbnn.export.c`.
* `layers`, `translator`: from the layers of Keras to the operations of a `program`, which is laid
  out in one scratch (`buffers`); the other files are operations and their C.
* `decisions`: what `tfbnn.decide` does with code that was written.
* `text`, `source`, `check_program`: the files; `c_compiler`, `agreement`: running them.

Most C functions take variances as a pointer that may be NULL: they then compute with plain
numbers.
"""

from tfbnn.export.c_source.exporter import c as c
