"""`tfbnn.optimizers`: optimizers that learn a law of the weights of plain Keras layers."""

from tfbnn.training.ivon import IVON as IVON
