"""`tfbnn.priors`: the public names of `tfbnn.weights.priors`."""

from tfbnn.weights.priors import AbstractPrior as AbstractPrior
from tfbnn.weights.priors import AutomaticRelevance as AutomaticRelevance
from tfbnn.weights.priors import Cauchy as Cauchy
from tfbnn.weights.priors import Distribution as Distribution
from tfbnn.weights.priors import FanIn as FanIn
from tfbnn.weights.priors import Informative as Informative
from tfbnn.weights.priors import Laplace as Laplace
from tfbnn.weights.priors import Normal as Normal
from tfbnn.weights.priors import ScaleMixture as ScaleMixture
from tfbnn.weights.priors import StudentT as StudentT
from tfbnn.weights.priors import get as get
