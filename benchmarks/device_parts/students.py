"""Students: what pruning and distillation make of a trained network, each kept in a file.

Sparsities were chosen on validation rows of seed 0; the other seeds have the same ones.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import keras
import numpy as np

import tfbnn
from benchmarks.device_parts import inputs


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network loses its units and learns to do without them.

    Attributes:
        sparsity: Share of the weights that go with the units.
        criterion: By which they are ranked.
        mean_epochs: Epochs at the posterior mean, which cost a third of those with moments.
        moments_epochs: Epochs with moments after them.
        moments_rows: Rows of those epochs.
    """

    sparsity: float
    criterion: str
    mean_epochs: int
    moments_epochs: int
    moments_rows: int


_RECIPES = {
    "mlp": Recipe(0.955, "savage_dickey", 0, 16, 200_000),
    "lenet": Recipe(0.91, "snr", 4, 1, 64_000),
}


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
        self._recipe = _RECIPES[network]
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
        if kind == "units" and percent:
            return lambda: self._thinned(float(percent) / 100)
        return self._taught if kind == "units" else self._taught_at_mean

    def _pruned(self, granularity: str, sparsity: float) -> tfbnn.Sequential:
        return tfbnn.prune(self.teacher, sparsity, granularity=granularity, compact=True)

    def _units(self) -> tfbnn.Sequential:
        options = {"granularity": "unit", "criterion": self._recipe.criterion, "compact": True}
        return tfbnn.prune(self.teacher, self._recipe.sparsity, **options)

    def _taught(self) -> tfbnn.Sequential:
        model = self._units()
        if self._recipe.mean_epochs:
            self._distill(model, "none", self._recipe.mean_epochs)
        self._distill(model, "moments", self._recipe.moments_epochs, self._recipe.moments_rows)
        return model

    def _thinned(self, sparsity: float) -> tfbnn.Sequential:
        """The taught network with fewer weights as well, taught again for a quarter as long."""
        model = tfbnn.prune(self.get("units"), sparsity, compact=True)
        epochs = max(1, self._recipe.moments_epochs // 4)
        self._distill(model, "moments", epochs, self._recipe.moments_rows)
        return model

    def _taught_at_mean(self) -> tfbnn.Sequential:
        """The control: the same network, taught as long, without an uncertainty of its own."""
        model = self._units()
        self._distill(model, "none", self._recipe.mean_epochs + self._recipe.moments_epochs)
        return model

    def _distill(
        self, model: tfbnn.Sequential, uncertainty: str, epochs: int, rows: int | None = None
    ) -> None:
        x, answers = inputs.taught(self.teacher, self._images, self._seed, self._folder)
        if rows is not None and rows < len(x):
            chosen = np.random.default_rng(self._seed).permutation(len(x))[:rows]
            x, answers = x[chosen], inputs.rows_of(answers, chosen)
        tfbnn.distill(model, x, answers, uncertainty, epochs=epochs, verbose=2)


def sizes(model: tfbnn.Sequential) -> str:
    """`784-129-49-10`."""
    units = [layer.kernel.shape[-1] for layer in tfbnn.layers.variational_layers(model)]
    return "-".join(map(str, [int(np.prod(model.input_shape[1:])), *units]))
