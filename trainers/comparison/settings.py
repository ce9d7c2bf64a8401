"""Settings of `trainers.compare`."""

import dataclasses

from trainers.comparison.routes import ROUTES
from trainers.comparison.tasks import TASKS
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
class CompareSettings:
    """Settings of `trainers.compare`; `BY_DATASET` has those for each data set.

    Those that begin with the name of a route are its alone.

    Raises:
        ValueError: If a value is out of its range.
    """

    dataset: str = option("digits", "data set", tuple(TASKS))
    data_dir: str | None = option(None, "folder of tensorflow-datasets; else TFDS_DATA_DIR")
    letters: str | None = option(None, "folder that holds notmnist/; else TFBNN_DATA")
    routes: tuple[str, ...] = option(tuple(ROUTES), f"routes, of {', '.join(ROUTES)}")
    seeds: tuple[int, ...] = option((0, 1, 2), "seeds of weights, noise and the order of rows")
    epochs: int = option(100, "epochs of every training; an ensemble has one for each member")
    batch_size: int = option(32, "rows in a training step")
    learning_rate: float = option(3e-3, "of AdamW at the start, from which it falls to 0")
    weight_decay: float = option(0.1, "of AdamW, for plain networks")
    mc_dropout_rate: float = option(0.1, "share of units that MC dropout drops")
    ensemble_members: int = option(5, "networks of an ensemble")
    swag_learning_rate: float = option(3e-3, "of SWAG, constant in the second half of its epochs")
    ivon_learning_rate: float = option(0.3, "of IVON at the start, from which it falls to 0")
    num_samples: int = option(32, "networks drawn for a prediction")
    output: str = option("saved_models", "folder that runs are written to")
    name: str | None = option(None, "folder of the comparison in it; else <dataset>-compare")
    smoke: bool = option(False, "runs of seconds on a few rows: do everything, learn nothing")

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "batch_size", "num_samples")
        check_at_least(self, 2, "ensemble_members")
        # SWAG collects in the second half, two networks or more.
        check_at_least(self, 4, "epochs")
        check_seeds(self, "seeds")
        check_places(self, "output", "data_dir", "letters")
        for name in ("routes", "seeds"):
            values = getattr(self, name)
            different = len(set(values)) == len(values) > 0
            check(self, name, different, "one or more, all different")
        check(self, "routes", set(self.routes) <= set(ROUTES), f"some of {tuple(ROUTES)}")
        for name in ("learning_rate", "swag_learning_rate", "ivon_learning_rate"):
            check(self, name, getattr(self, name) > 0, "positive")
        check(self, "weight_decay", self.weight_decay >= 0, "at least 0")
        check(self, "mc_dropout_rate", 0 < self.mc_dropout_rate < 1, "between 0 and 1")
        check(self, "name", is_folder_name(self.name), "a folder name")

    def of_others(self, route: str) -> tuple[str, ...]:
        """The names of settings that are of other routes alone."""
        names = [field.name for field in dataclasses.fields(self)]
        others = tuple(f"{other}_" for other in ROUTES if other != route)
        return tuple(name for name in names if name.startswith(others))

    def effective(self) -> "CompareSettings":
        """These settings, cut down if they ask for a smoke run."""
        return dataclasses.replace(self, epochs=4, num_samples=4) if self.smoke else self


BY_DATASET = {
    "digits": CompareSettings(),
    "moons": CompareSettings(
        dataset="moons",
        epochs=200,
        learning_rate=1e-2,
        swag_learning_rate=3e-2,
        ivon_learning_rate=0.1,
    ),
    "mnist": CompareSettings(
        dataset="mnist",
        epochs=5,
        batch_size=128,
        learning_rate=1e-2,
        swag_learning_rate=1e-3,
    ),
}
