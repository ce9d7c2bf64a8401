"""`tfbnn.callbacks`: the public names of the callbacks in `tfbnn.training`."""

from tfbnn.training.callbacks import SigmaLogger as SigmaLogger
from tfbnn.training.callbacks import sigma_statistics as sigma_statistics
from tfbnn.training.resuming import ResumeTraining as ResumeTraining
