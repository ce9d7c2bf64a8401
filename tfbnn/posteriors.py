"""`tfbnn.posteriors`: the public names of `tfbnn.posterior`."""

from tfbnn.posterior.base import AbstractPosterior as AbstractPosterior
from tfbnn.posterior.ensemble import Ensemble as Ensemble
from tfbnn.posterior.gaussian import AbstractGaussianPosterior as AbstractGaussianPosterior
from tfbnn.posterior.gaussian import GaussianPosterior as GaussianPosterior
from tfbnn.posterior.ivon import IVON as IVON
from tfbnn.posterior.laplace.laplace import Laplace as Laplace
from tfbnn.posterior.mc_dropout import MCDropout as MCDropout
from tfbnn.posterior.mcmc.mcmc import MCMC as MCMC
from tfbnn.posterior.mean_field import MeanFieldPosterior as MeanFieldPosterior
from tfbnn.posterior.point import MAP as MAP
from tfbnn.posterior.swag import SWAG as SWAG
