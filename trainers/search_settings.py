"""Settings of `trainers.search`, and for each data set where it looks."""

import dataclasses

from tfbnn.recipes import RECIPES
from trainers.data import DATASETS
from trainers.settings import (
    check,
    check_at_least,
    check_places,
    check_seeds,
    check_types,
    is_folder_name,
    option,
)


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """Settings of `trainers.search`.

    Raises:
        ValueError: If a value is out of its range.
    """

    dataset: str = option("digits", "data set", tuple(DATASETS))
    data_dir: str | None = option(None, "folder of tensorflow-datasets; else TFDS_DATA_DIR")
    tuner: str = option("random", "how trials are chosen", ("random", "bayesian", "hyperband"))
    objective: str = option("nll", "what trials are scored by", ("nll", "bytes"))
    error_budget: float = option(0.03, "largest validation error, for --objective bytes")
    trials: int = option(20, "number of trials; Hyperband has its own")
    epochs: int = option(60, "epochs of a trial; of the longest ones, for Hyperband")
    batch_size: int = option(64, "rows in a training step")
    filters: tuple[int, ...] = option((8, 16), "filters of the first convolution; 0 for none")
    widths: tuple[int, ...] = option((32, 64), "units of a hidden layer")
    depth: int = option(1, "number of hidden layers")
    recipes: tuple[str, ...] = option(
        ("calibrated", "elbo"), f"how training goes, of {', '.join(RECIPES)}"
    )
    beta: tuple[float, ...] = option(
        (), "factors of the KL, anything but 1 is not the ELBO; else those of the recipes"
    )
    num_samples: int = option(64, "networks drawn to score a model")
    num_samples_in_file: int = option(16, "networks drawn inside the exported file")
    baseline: bool = option(True, "train the default recipe too, to compare with")
    seed: int = option(1, "seed of the choice of trials; every trial trains with seed 0")
    strategy: str = option(
        "one_device", "tf.distribute within a trial: several GPUs", ("one_device", "mirrored")
    )
    devices: tuple[str, ...] = option((), "devices to use, such as GPU:0 GPU:1; else all GPUs")
    output: str = option("saved_models", "folder of all searches")
    name: str | None = option(None, "name of the search; else <dataset>-search")
    smoke: bool = option(False, "a search of seconds on a few rows: does everything, finds nothing")

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "trials", "epochs", "batch_size", "widths", "seed")
        check_seeds(self, "seed")
        check_places(self, "output", "data_dir")
        check_at_least(self, 1, "num_samples", "num_samples_in_file")
        check_at_least(self, 0, "depth", "filters")
        check(self, "beta", all(b >= 0 for b in self.beta), "at least 0")
        check(
            self,
            "recipes",
            self.recipes and set(self.recipes) <= set(RECIPES),
            f"some of {sorted(RECIPES)}",
        )
        check(self, "error_budget", 0 <= self.error_budget <= 1, "in [0, 1]")
        check(self, "name", is_folder_name(self.name), "a folder name")

    def effective(self) -> "SearchSettings":
        """These settings, cut down if they ask for a smoke run."""
        if not self.smoke:
            return self
        small = {"trials": 2, "epochs": 2, "filters": (2,), "widths": (4,)}
        return dataclasses.replace(self, **small, error_budget=1.0, num_samples=4)


SEARCHES = {
    "digits": SearchSettings(),
    "mnist": SearchSettings(
        dataset="mnist",
        epochs=10,
        batch_size=128,
        filters=(0,),
        widths=(200, 400, 800),
        depth=2,
        # Sixty epochs on two layers of 400 units: longer than the search.
        baseline=False,
    ),
    "cifar10": SearchSettings(
        dataset="cifar10",
        epochs=10,
        batch_size=128,
        filters=(16, 32),
        baseline=False,
    ),
}
