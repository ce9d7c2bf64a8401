"""`tfbnn.recipes`: the public names of `tfbnn.training.recipes`."""

from tfbnn.training.recipes import RECIPES as RECIPES
from tfbnn.training.recipes import Recipe as Recipe
from tfbnn.training.recipes import get as get
