"""`tfbnn.schedules`: the public names of `tfbnn.training.schedules`."""

from tfbnn.training.schedules import LinearWarmUp as LinearWarmUp
from tfbnn.training.schedules import MinibatchWeights as MinibatchWeights
from tfbnn.training.schedules import get as get
