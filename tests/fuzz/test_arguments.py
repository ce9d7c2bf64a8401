"""A small share of the bad arguments in every run, and whether every argument is in the table."""

import inspect

import pytest

import tfbnn
from tests.fuzz import arguments
from tests.fuzz.callables import table, world
from tfbnn.scores import (
    class_scores,
    class_uncertainty,
    diagrams,
    number_scores,
    number_uncertainty,
    risk_coverage,
    temperature,
)
from tfbnn.training import strategies

SEED, COUNT = 0, 200
MODULES = [
    *(getattr(tfbnn, name) for name in tfbnn._MODULES),
    *(class_scores, class_uncertainty, number_scores, number_uncertainty, temperature),
    *(diagrams, risk_coverage, strategies),
]
# What nobody calls: abstract, made by others, or a helper of other files.
NOT_CALLED = {
    *("tfbnn.priors.AbstractPrior", "tfbnn.layers.AbstractConvolution"),
    *("tfbnn.layers.AbstractLinearLayer", "tfbnn.layers.AbstractVariationalLayer"),
    "tfbnn.layers.RandomMap",
    *("tfbnn.posteriors.AbstractPosterior", "tfbnn.posteriors.AbstractGaussianPosterior"),
    *("tfbnn.lite.Answer", "tfbnn.scores.class_scores.Reliability"),
    *("tfbnn.lite.read_manifest", "tfbnn.scores.risk_coverage.RiskCoverage"),
    *("tfbnn.scores.class_scores.calibration_error", "tfbnn.scores.temperature.examples_of"),
    *("tfbnn.scores.temperature.Temperature", "tfbnn.scores.temperature.Examples"),
    *("tfbnn.scores.temperature.fitted", "tfbnn.scores.temperature.chosen"),
    "tfbnn.scores.temperature.warn_if_doubtful",
    "tfbnn.scores.class_uncertainty.checked_probabilities",
    "tfbnn.scores.number_uncertainty.checked_normals",
}


def public_names():
    for name in tfbnn._HOMES:
        if not name.endswith("Warning"):
            yield f"tfbnn.{name}", getattr(tfbnn, name)
    for module in MODULES:
        for name, value in vars(module).items():
            if name.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            # The modules of short names repeat those of others; the others show their own.
            short = module.__name__.count(".") == 1 and value.__module__.startswith("tfbnn.")
            if short or value.__module__ == module.__name__:
                yield f"{module.__name__}.{name}", value


def parameters(function):
    """The names of the arguments, those that a class hands on to its own bases as well."""
    functions = [function]
    if inspect.isclass(function):
        own = (
            cls for cls in function.__mro__ if cls.__module__.startswith(("tfbnn.", "trainers."))
        )
        functions = [cls.__init__ for cls in own if "__init__" in vars(cls)]
    return {name for one in functions for name in inspect.signature(one).parameters} - {"self"}


@pytest.fixture(scope="module")
def entries():
    return {entry.name: entry for entry in table(world())}


def test_every_public_callable_is_in_the_table(entries):
    missing = {name for name, _ in public_names()} - set(entries) - NOT_CALLED
    assert not missing


def test_every_argument_is_in_the_table(entries):
    for name, entry in entries.items():
        assert parameters(entry.public or entry.call) == {*entry.kinds, *entry.others}, name


def test_a_right_call_is_right(entries):
    for entry in entries.values():
        if not entry.slow:
            entry.after(entry.call(**entry.right()))


def test_a_bad_argument_is_refused_or_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    print(f"seed {SEED}")
    for one in arguments.sample(SEED, COUNT):
        one.attempt()


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ValueError("`n` must be 1. Received: n=2"), ""),
        (TypeError("`n` must be 1. Received: n of type str"), ""),
        (ValueError("`m` must be 1. Received: m=2"), "it does not name `n`"),
        (ValueError("`n` must be 1"), "it does not say what it received"),
        (AttributeError("n. Received: n=2"), "it is a AttributeError"),
        (UnicodeError("n. Received: n=2"), "it is a UnicodeError"),
        (FileNotFoundError(2, "No such file", "a.csv"), ""),
        (OSError("no"), "no file named"),
    ],
)
def test_what_a_clear_error_is(error, problem):
    assert arguments.is_clear(error, "n", value="a.csv") == problem
