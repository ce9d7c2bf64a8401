"""The same plain layers in a model of tfbnn, trained by IVON."""

from typing import Any

import networks
from contenders import deterministic

import tfbnn


class Contender(deterministic.Contender):
    """The same Keras model, whose steps are taken at draws of the weights."""

    def model_class(self) -> Any:
        return tfbnn.Sequential

    def optimizer(self) -> tfbnn.optimizers.IVON:
        return tfbnn.optimizers.IVON(seed=0)

    def prepare_training(self) -> None:
        self.model.num_examples = networks.EXAMPLES
