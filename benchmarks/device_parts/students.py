"""Students: what pruning and distillation make of a trained network, each kept in a file.

Sparsities were chosen on validation rows of seed 0; the other seeds have the same ones.
"""

import pathlib
from collections.abc import Callable

import keras
import numpy as np

import tfbnn
from benchmarks.device_parts import inputs

# Share of the weights that go with the units, by network.
_UNITS = {"mlp": 0.955, "lenet": 0.9}
_EPOCHS = {"mlp": 16, "lenet": 8}


class Students:
    """All networks that come from one trained one.

    Args:
        teacher: The trained network.
        network: `"mlp"` or `"lenet"`.
        images: Images to teach with, without labels.
        seed: Of the distillation.
        folder: Where they are kept.
    """

    def __init__(
        self,
        teacher: tfbnn.Sequential,
        network: str,
        images: inputs.Images,
        seed: int,
        folder: pathlib.Path,
    ):
        self.teacher = teacher
        self._network = network
        self._images = images
        self._seed = seed
        self._folder = folder

    def get(self, name: str) -> tfbnn.Sequential:
        """A network by name, made if its file is not there."""
        if name == "unpruned":
            return self.teacher
        path = self._folder / f"{name}.keras"
        if not path.exists():
            keras.utils.set_random_seed(self._seed)
            self._maker(name)().save(path)
        return tfbnn.load_model(path)

    def _maker(self, name: str) -> Callable[[], tfbnn.Sequential]:
        kind, _, percent = name.partition("-")
        if kind in ("weight", "block"):
            return lambda: self._pruned(kind, float(percent) / 100)
        routes = {"units": "moments", "control": "mean"}
        return lambda: self._distilled(self._units(), routes[kind], _EPOCHS[self._network])

    def _pruned(self, granularity: str, sparsity: float) -> tfbnn.Sequential:
        return tfbnn.compact(tfbnn.prune(self.teacher, sparsity, granularity=granularity))

    def _units(self) -> tfbnn.Sequential:
        options = {"granularity": "unit", "criterion": "savage_dickey"}
        return tfbnn.compact(tfbnn.prune(self.teacher, _UNITS[self._network], **options))

    def _distilled(self, model: tfbnn.Sequential, route: str, epochs: int) -> tfbnn.Sequential:
        x, answers = inputs.taught(self.teacher, self._images, self._seed, self._folder)
        tfbnn.distill(model, x, answers, route, epochs=epochs, verbose=2)
        return model


def sizes(model: tfbnn.Sequential) -> str:
    """`784-129-49-10`."""
    units = [layer.kernel.shape[-1] for layer in tfbnn.layers.variational_layers(model)]
    return "-".join(map(str, [int(np.prod(model.input_shape[1:])), *units]))
