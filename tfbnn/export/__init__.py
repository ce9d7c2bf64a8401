"""Export: files that answer with a prediction and an uncertainty, without tfbnn.

| target | what it is | modes |
|---|---|---|
| `saved_model` | a TensorFlow SavedModel whose weights are stored sparse | all |
| `tflite` | a LiteRT file, which `tfbnn.lite.Model` runs | all |
| `onnx` | an ONNX file, which onnxruntime runs | `Moments`, `Ensemble`, `Mean` |
| `c` | C99 that needs no runtime; see `c_source` | `Moments`, `Mean` |

They run what they wrote (C where there is a compiler), compare it with the posterior on real rows,
and raise, leaving nothing behind, if the two disagree. They write a manifest in JSON.

* `modes`: how a file is uncertain.
* `options`: how numbers are stored, and what a file takes.
* `shipping`: what every target does around writing, once.
* `rows`: inputs and outputs by name, and rows to compare on.
* `agreement`: the comparison with the posterior.
* `laws`: the laws of weights as constants, and how a random map computes with them.
* `variances`: variances of weights as a product of two small arrays.
* `bits`: how many bits a kernel needs, from its posterior.
* `encoding`: a LiteRT file in fewer bytes: sparse kernels (`sparsity`), integers, float16;
  `litert_file`: a file that is rewritten.
* `sparse`: kept weights and their positions, for the SavedModel.
* `conversion`, `flatbuffer`: to the bytes of a LiteRT file, and what they say of themselves.
* `manifest`: what is in the file.
* `deciding`: `tfbnn.decide`, thresholds of a file that was written.
* `files`: writing all or nothing.

To add a target: one file with a subclass of `AbstractTarget`, and a row in `targets.TARGETS`.
"""

from tfbnn.export.c_source import c as c
from tfbnn.export.modes import Ensemble as Ensemble
from tfbnn.export.modes import Mean as Mean
from tfbnn.export.modes import Moments as Moments
from tfbnn.export.modes import MonteCarlo as MonteCarlo
from tfbnn.export.onnx import onnx as onnx
from tfbnn.export.options import Inputs as Inputs
from tfbnn.export.options import Storage as Storage
from tfbnn.export.saved_model import saved_model as saved_model
from tfbnn.export.targets import TARGETS as TARGETS
from tfbnn.export.tflite import tflite as tflite
