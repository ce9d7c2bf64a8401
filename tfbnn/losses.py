"""`tfbnn.losses`: the public names of `tfbnn.training.losses`."""

from tfbnn.training.losses import NormalNLL as NormalNLL
