"""Layers: a linear map, an estimator and a weight law put together.

`Dense`, `Conv1D`, `Conv2D`, `Conv3D`, `DepthwiseConv2D`, `Conv1DTranspose` and `Conv2DTranspose`
have the arguments of their Keras namesakes, and one more:

* `estimator="flipout"`, the default: examples of a batch get uncorrelated noise at two products a
  layer.
* `estimator="local_reparameterization"`: the least gradient noise, and the cheapest for wide dense
  layers: it draws as many normals as there are outputs, not weights.
* `estimator="reparameterization"`: one product a layer; all examples share one draw, so gradients
  are noisy.

All three have the same posterior and the same predictions after training. For those who come from
TensorFlow Probability `{Dense, Convolution1D, Convolution2D, Convolution3D}{Reparameterization,
LocalReparameterization, Flipout}` are the same layers with their estimator in the name.

A layer of your own holds random maps: see `AbstractVariationalLayer`. Not offered: recurrent
layers and embeddings.
"""

from tfbnn.layers.bindings import Convolution1DFlipout as Convolution1DFlipout
from tfbnn.layers.bindings import (
    Convolution1DLocalReparameterization as Convolution1DLocalReparameterization,
)
from tfbnn.layers.bindings import Convolution1DReparameterization as Convolution1DReparameterization
from tfbnn.layers.bindings import Convolution2DFlipout as Convolution2DFlipout
from tfbnn.layers.bindings import (
    Convolution2DLocalReparameterization as Convolution2DLocalReparameterization,
)
from tfbnn.layers.bindings import Convolution2DReparameterization as Convolution2DReparameterization
from tfbnn.layers.bindings import Convolution3DFlipout as Convolution3DFlipout
from tfbnn.layers.bindings import (
    Convolution3DLocalReparameterization as Convolution3DLocalReparameterization,
)
from tfbnn.layers.bindings import Convolution3DReparameterization as Convolution3DReparameterization
from tfbnn.layers.bindings import DenseFlipout as DenseFlipout
from tfbnn.layers.bindings import DenseLocalReparameterization as DenseLocalReparameterization
from tfbnn.layers.bindings import DenseReparameterization as DenseReparameterization
from tfbnn.layers.convolution import AbstractConvolution as AbstractConvolution
from tfbnn.layers.convolution import Conv1D as Conv1D
from tfbnn.layers.convolution import Conv2D as Conv2D
from tfbnn.layers.convolution import Conv3D as Conv3D
from tfbnn.layers.dense import Dense as Dense
from tfbnn.layers.depthwise import DepthwiseConv2D as DepthwiseConv2D
from tfbnn.layers.linear_layer import AbstractLinearLayer as AbstractLinearLayer
from tfbnn.layers.random_maps import RandomMap as RandomMap
from tfbnn.layers.transposed import Conv1DTranspose as Conv1DTranspose
from tfbnn.layers.transposed import Conv2DTranspose as Conv2DTranspose
from tfbnn.layers.variational import AbstractVariationalLayer as AbstractVariationalLayer
from tfbnn.layers.variational import random_maps as random_maps
from tfbnn.layers.variational import variational_layers as variational_layers
from tfbnn.layers.variational import variational_weights as variational_weights
