"""`tfbnn.callbacks`: the public names of the callbacks in `tfbnn.training`."""

from tfbnn.training.resuming import ResumeTraining as ResumeTraining
from tfbnn.training.sigma import sigma_statistics as sigma_statistics
from tfbnn.training.sigma_logger import SigmaLogger as SigmaLogger
