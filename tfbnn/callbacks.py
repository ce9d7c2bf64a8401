"""`tfbnn.callbacks`: the public names of `tfbnn.training.callbacks`."""

from tfbnn.training.callbacks import SigmaLogger as SigmaLogger
from tfbnn.training.callbacks import sigma_statistics as sigma_statistics
