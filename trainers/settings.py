"""Settings: one frozen dataclass, whose fields are the flags of the trainers.

A field becomes a flag by its annotation: `learning_rate: float` is `--learning-rate 0.001`, a bool
is `--smoke` and `--no-smoke`, a tuple takes several values. Unknown flags and values of the wrong
type are errors.
"""

import argparse
import dataclasses
import math
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any

from tfbnn import arguments
from tfbnn.export.modes import MODES
from tfbnn.recipes import RECIPES
from tfbnn.training import strategies
from tfbnn.weights.priors import PRIORS
from trainers.data import DATASETS


def option(default: Any, help: str | None, choices: tuple[str, ...] | None = None) -> Any:
    """A field of settings, with what `--help` says of it; with None it is no flag."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


def check_types(settings: Any) -> None:
    """Raise a `ValueError` unless each field is what its annotation says, as a plain value."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        checked = _checked(field.name, value, hint)
        if field.metadata["choices"]:
            arguments.one_of(field.name, checked, field.metadata["choices"])
        # Of a frozen dataclass.
        object.__setattr__(settings, field.name, checked)


def _value_type(hint: Any) -> type:
    """`int` for `int`, `int | None` and `tuple[int, ...]`."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union, tuple):
        return typing.get_args(hint)[0]
    return hint


def _checked(name: str, value: Any, hint: Any) -> Any:
    one = _CHECKS[_value_type(hint)]
    if typing.get_origin(hint) is tuple:
        return tuple(arguments.listed(name, value, one))
    optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return None if optional and value is None else one(name, value)


_CHECKS = {
    bool: arguments.boolean,
    float: arguments.real_number,
    int: arguments.seed,
    str: arguments.text,
}


def check(settings: Any, name: str, holds: bool, range_in_words: str) -> None:
    """Raise a `ValueError` about the field `name` unless it `holds`."""
    if not holds:
        raise ValueError(
            f"`{name}` must be {range_in_words}. Received: {name}={getattr(settings, name)!r}"
        )


def check_at_least(settings: Any, bound: int, *names: str) -> None:
    """The same for fields, of one value or several, that must not be below `bound`."""
    for name in names:
        value = getattr(settings, name)
        smallest = min(value, default=bound - 1) if isinstance(value, tuple) else value
        check(settings, name, smallest >= bound, f"at least {bound}")


def check_seeds(settings: Any, *names: str) -> None:
    """The same for fields, of one value or several, that are seeds: of NumPy, which has 32 bits."""
    for name in names:
        value = getattr(settings, name)
        values = value if isinstance(value, tuple) else (value,)
        check(
            settings, name, all(0 <= seed < 2**32 for seed in values), "at least 0 and below 2**32"
        )


def check_places(settings: Any, *names: str) -> None:
    """The same for fields that are a path or None: an empty one would be the folder one is in."""
    for name in names:
        check(settings, name, getattr(settings, name) != "", "a path, which is not empty")


def is_folder_name(name: str | None) -> bool:
    """Whether a run can have this name; None leaves it to the trainer."""
    return name is None or (name not in ("", ".", "..") and not {"/", "\0"} & set(name))


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of `trainers.classification`. `BY_DATASET` has those for each data set.

    Raises:
        ValueError: If a value is out of its range.
    """

    dataset: str = option("digits", "data set", tuple(DATASETS))
    data_dir: str | None = option(None, "folder of tensorflow-datasets; else TFDS_DATA_DIR")
    train_on_all: bool = option(False, "train on the validation rows too")
    layer: str = option(
        "Flipout", "estimator", ("Flipout", "LocalReparameterization", "Reparameterization")
    )
    filters: int = option(0, "filters of the first of two convolutions, 0 for none")
    width: int = option(400, "units of a hidden layer")
    depth: int = option(2, "number of hidden layers")
    prior: str = option("automatic_relevance", "prior of the weights", tuple(PRIORS))
    largest_scale: float = option(
        0.0,
        "largest scale of the automatic relevance of a kernel, 0 for one relative to the fan-in",
    )
    pi: float = option(0.5, "share of the wide component of a scale mixture")
    sigma1: float = option(1.0, "standard deviation of its wide component")
    sigma2: float = option(math.exp(-6), "standard deviation of its narrow component")
    initial_scale: float | None = option(
        None, "posterior standard deviation to start at; else relative to the fan-in"
    )
    recipe: str = option("sparse", "how the settings of training fit together", tuple(RECIPES))
    epochs: int = option(60, "epochs of training")
    batch_size: int = option(128, "rows in a training step")
    learning_rate: float | None = option(
        None, "of Adam at the start, from which it falls to 0; else that of the recipe"
    )
    beta: float | None = option(
        None, "factor of the KL, anything but 1 is not the ELBO; else that of the recipe"
    )
    sparsity: float = option(0.9, "share of the weights to remove from the model that ships")
    sparsities: tuple[float, ...] = option(
        (0.0, 0.5, 0.75, 0.9, 0.95, 0.98), "sparsities in the table and the pruning curve"
    )
    fine_tune_epochs: int = option(0, "epochs of training after pruning to --sparsity")
    num_samples: int = option(64, "networks drawn to score a Keras model")
    export: bool = option(True, "write and run the SavedModel and the .tflite files")
    uncertainty: str = option("monte_carlo", "how a .tflite file is uncertain", tuple(MODES))
    scale: str = option(
        "full", "how a .tflite file stores standard deviations", ("full", "rank_one", "unit")
    )
    num_samples_in_file: int = option(16, "networks drawn inside an exported file")
    precision: str = option(
        "float32", "of the .tflite files", ("float32", "float16", "int8", "posterior")
    )
    seed: int = option(0, "seed of the weights, the noise and the order of the rows")
    output: str = option("saved_models", "folder that runs are written to")
    name: str | None = option(None, "name of the run; else <dataset>-<date-time>")
    json: str | None = option(None, "file to write the table to")
    strategy: str = option(
        "auto", "tf.distribute: several GPUs, or workers by TF_CONFIG", strategies.STRATEGIES
    )
    devices: tuple[str, ...] = option((), "devices to use, such as GPU:0 GPU:1; else all GPUs")
    resume: str | None = option(
        None, "folder for the state of the training, from which a killed run goes on"
    )
    smoke: bool = option(False, "a run of seconds on a few rows: does everything, learns nothing")

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(
            self, 1, "width", "epochs", "batch_size", "num_samples", "num_samples_in_file"
        )
        check_at_least(self, 0, "filters", "depth", "fine_tune_epochs")
        check_seeds(self, "seed")
        check_places(self, "output", "data_dir", "json", "resume")
        check(self, "beta", self.beta is None or 0 <= self.beta < math.inf, "finite, at least 0")
        for name in ("sigma1", "sigma2", "initial_scale", "learning_rate"):
            value = getattr(self, name)
            check(self, name, value is None or 0 < value < math.inf, "positive and finite")
        if self.largest_scale:
            arguments.standard_deviation("largest_scale", self.largest_scale)
        check(self, "pi", 0 < self.pi < 1, "between 0 and 1")
        check(self, "sparsity", 0 <= self.sparsity < 1, "in [0, 1)")
        check(self, "sparsities", all(0 <= s < 1 for s in self.sparsities), "in [0, 1)")
        check(self, "name", is_folder_name(self.name), "a folder name")

    @property
    def all_sparsities(self) -> list[float]:
        """Those of the table: 0, `sparsities`, and the one that ships, in order."""
        return sorted({0.0, *self.sparsities, self.sparsity})

    def effective(self) -> "Settings":
        """These settings, cut down if they ask for a smoke run."""
        if not self.smoke:
            return self
        return dataclasses.replace(
            self,
            filters=min(self.filters, 4),
            width=min(self.width, 16),
            epochs=2,
            num_samples=4,
            # What has learnt nothing may lose a whole layer at more.
            sparsity=min(self.sparsity, 0.5),
            sparsities=(0.0,),
        )


# With 1,077 examples the KL weighs 46 times what it does on MNIST, and the ELBO of a perceptron is
# best where it has some 3 % error: shared weights are cheaper.
BY_DATASET = {
    "digits": Settings(
        dataset="digits",
        filters=16,
        width=64,
        depth=1,
        epochs=300,
    ),
    # So many rows say themselves how large weights are to be; on validation rows 1 was better than
    # 0.25.
    "mnist": Settings(dataset="mnist", train_on_all=True, largest_scale=1.0, epochs=60),
    # Not searched: the convolutions of the digits, twice as wide.
    "cifar10": Settings(dataset="cifar10", filters=32, width=64, depth=1, epochs=40),
}


def parse(
    by_dataset: dict[str, Settings],
    description: str | None = None,
    argv: Sequence[str] | None = None,
) -> Any:
    """Settings from the command line; the data set chooses the defaults.

    Args:
        by_dataset: Settings by data set; the first is the default one.
        description: What the program does, for `--help`.
        argv: Arguments; those of the process by default.

    Returns:
        Settings of the class of those in `by_dataset`.

    Raises:
        SystemExit: With code 2 and a message, on an unknown flag or a value of the wrong type or
            range; with code 0 after `--help`.

    Example:

    >>> parse(BY_DATASET, argv=["--dataset", "mnist", "--epochs", "3"]).epochs
    3
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--dataset", nargs="?", default=next(iter(by_dataset)))
    chosen = first.parse_known_args(argv)[0].dataset
    # No name or an unknown one goes to the full parser, which knows how to refuse it.
    defaults = by_dataset.get(chosen, next(iter(by_dataset.values())))
    # As it was started: the file in a folder of its own would not find the others.
    module = getattr(sys.modules["__main__"], "__spec__", None)
    parser = argparse.ArgumentParser(
        prog=f"python -m {module.name}" if module else None,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(type(defaults))
    for field in dataclasses.fields(defaults):
        if field.metadata["help"] is None:
            continue
        _add_flag(parser, field, hints[field.name], getattr(defaults, field.name))
    values = vars(parser.parse_args(argv))
    try:
        return type(defaults)(
            **{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        )
    except ValueError as error:
        parser.error(str(error))


def _add_flag(
    parser: argparse.ArgumentParser, field: dataclasses.Field, hint: Any, default: Any
) -> None:
    flag = "--" + field.name.replace("_", "-")
    help_text = f"{field.metadata['help']} (default: {_in_words(default)})".replace("%", "%%")
    if hint is bool:
        parser.add_argument(
            flag, action=argparse.BooleanOptionalAction, default=default, help=help_text
        )
        return
    several = typing.get_origin(hint) is tuple
    parser.add_argument(
        flag,
        type=_value_type(hint),
        nargs="+" if several else None,
        choices=field.metadata["choices"],
        default=default,
        metavar=None if field.metadata["choices"] else _value_type(hint).__name__.upper(),
        help=help_text,
    )


def _in_words(default: Any) -> str:
    if default is None or default == ():
        return "none"
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    return f"{default:.6g}" if isinstance(default, float) else str(default)
