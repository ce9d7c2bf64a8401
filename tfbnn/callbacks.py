"""`tfbnn.callbacks`: the public names of the callbacks in `training` and `posterior`."""

from tfbnn.posterior.swag_callback import SWAG as SWAG
from tfbnn.training.resuming import ResumeTraining as ResumeTraining
from tfbnn.training.sigma import sigma_statistics as sigma_statistics
from tfbnn.training.sigma_logger import SigmaLogger as SigmaLogger
from tfbnn.training.sigma_stop import StopWhenSigmaSettles as StopWhenSigmaSettles
