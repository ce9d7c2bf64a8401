"""`tfbnn.losses`: losses that are likelihoods and that Keras does not have."""

from tfbnn.likelihoods.table import LIKELIHOODS

globals().update({loss.__name__: loss for loss in LIKELIHOODS if "tfbnn" in loss.__module__})
