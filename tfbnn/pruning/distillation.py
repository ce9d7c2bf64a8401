"""`tfbnn.distill`: teach a small network what a large posterior predicts, without labels."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.steps import steps_of
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.variational import posterior_of
from tfbnn.prediction import moments
from tfbnn.prediction.points import at_points
from tfbnn.training.likelihoods import AbstractLikelihood
from tfbnn.weights import noise
