"""Export: files that answer with a prediction and an uncertainty, without tfbnn.

* `saved_model`: a TensorFlow SavedModel whose weights are stored sparse.
* `tflite`: a LiteRT file, by moments, draws or an ensemble. `tfbnn.lite.Model` runs it.
* `c`: C99 that needs no runtime, with means and variances in one pass. See `c_source`.

They run what they wrote (C where there is a compiler), compare it with the Keras model on real
rows, and raise, leaving nothing behind, if the two disagree. They write a manifest in JSON.

* `freeze`: the posterior as constants, and how a layer computes with them.
* `graph`: what a LiteRT file computes, for each way of being uncertain.
* `variances`: variances of weights as a product of two small arrays.
* `bits`: how many bits a kernel needs, from its posterior.
* `encoding`: a LiteRT file in fewer bytes: sparse kernels, integers, float16.
* `sparse`: kept weights and their positions, for the SavedModel.
* `conversion`, `flatbuffer`: to the bytes of a LiteRT file, and what they say of themselves.
* `verification`: the comparison with Keras.
* `options`: what all of them take, checked.
* `manifest`: what is in the file.
* `files`: writing all or nothing.
"""

from tfbnn.export.c_source import c as c
from tfbnn.export.saved_model import saved_model as saved_model
from tfbnn.export.tflite import tflite as tflite
