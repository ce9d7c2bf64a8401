"""A small share of the bad arguments in every run, and whether all arguments are in the table."""

import inspect

import pytest

import tfbnn
from tests.fuzz import arguments
from tests.fuzz.callables import table, world
from tfbnn.prediction import calibration, diagrams, regression_scores, uncertainty
from tfbnn.training import strategies

SEED, COUNT = 0, 150
MODULES = [
    *(getattr(tfbnn, name) for name in tfbnn._MODULES),
    *(calibration, diagrams, regression_scores, uncertainty, strategies),
]
