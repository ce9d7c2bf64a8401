"""`tfbnn.families`: the public names of `tfbnn.weights.families`."""

from tfbnn.weights.families import Normal as Normal
from tfbnn.weights.families import Point as Point
from tfbnn.weights.families import get as get
