"""Export: files that answer with a prediction and an uncertainty, without tfbnn.

* `saved_model`: a TensorFlow SavedModel whose weights are stored sparse.
* `tflite`: a LiteRT file, with the random draws inside it. `tfbnn.lite.Model` runs it.

Both run what they wrote, compare it with the Keras model on real rows, and raise, leaving nothing
behind, if the two disagree. Both write a manifest, `<path>.json`.

* `freeze`: the posterior as constants, and how a layer computes with them.
* `answers`: from the outputs of many draws to `prediction` and `uncertainty`, in the graph.
* `sparse`: kept weights and their positions, for the SavedModel.
* `conversion`, `flatbuffer`: to the bytes of a LiteRT file, and what they say of themselves.
* `verification`: the comparison with Keras.
* `manifest`: what is in the file.
* `files`: writing all or nothing.
"""

from tfbnn.export.c_source import c as c
from tfbnn.export.saved_model import saved_model as saved_model
from tfbnn.export.tflite import tflite as tflite
