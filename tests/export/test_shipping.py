"""What stands around every target: what a file is made of is looked at once, and said by name."""

import keras
import pytest
import tensorflow as tf

import tfbnn
from tests.routes import ROUTES, bayesian
from tests.targets import READERS
from tfbnn.export import TARGETS
from tfbnn.export.modes import MODES
from tfbnn.posterior import MeanFieldPosterior, posterior_of
from tfbnn.posterior.base import AbstractRandomVariables
from tfbnn.posterior.gaussian import gaussian

X = ROUTES["mean field"].x


class Counted(MeanFieldPosterior):
    """Counts the series and the single networks that are drawn from it."""

    num_series = num_single = 0

    def draws(self, seed, first, count):
        self.num_series += 1
        return super().draws(seed, first, count)

    def draw(self, seed):
        self.num_single += tf.executing_eagerly()
        return super().draw(seed)


def test_laws_are_compared_once(tmp_path):
    posterior = Counted(bayesian())
    gaussian(posterior, "A test")
    once = posterior.num_single
    tfbnn.export.tflite(posterior, tmp_path / "m.tflite", "moments", "posterior", check_data=X)
    assert posterior.num_single == 2 * once > 0


@pytest.mark.parametrize("target", ["tflite", "saved_model"])
def test_an_ensemble_is_drawn_once(target, tmp_path):
    posterior = Counted(bayesian())
    getattr(tfbnn.export, target)(posterior, tmp_path / "m", "ensemble", check_data=X)
    assert posterior.num_series == 1


class Elsewhere(AbstractRandomVariables):
    """A plain Keras model, whose laws are those of the layers of another one."""

    route = "elsewhere"

    def __init__(self):
        self.laws_are_read = False
        self.other = posterior_of(bayesian())
        layers = [keras.layers.Dense(n, a) for n, a in ((6, "relu"), (3, None))]
        model = keras.Sequential([keras.Input((5,)), *layers])
        model.set_weights([law.loc.numpy() for law in self.other.laws().values()])
        super().__init__(model, self.other.likelihoods)

    @property
    def variables(self):
        return self.model.trainable_variables

    def draw(self, seed):
        return self.other.draw(seed)

    def mean(self):
        return self.other.mean()

    def with_laws(self):
        self.laws_are_read = True
        return self.other


FILES = [(name, mode.name) for name, target in TARGETS.items() for mode in target.modes]


@pytest.mark.parametrize("target, mode", FILES)
def test_laws_of_a_posterior_that_keeps_them_elsewhere(target, mode, tmp_path):
    if READERS[target].missing:
        pytest.skip(f"not installed: {READERS[target].missing}")
    posterior = Elsewhere()
    manifest = getattr(tfbnn.export, target)(posterior, tmp_path / "net", mode, check_data=X)
    assert (manifest["posterior"], manifest["mode"]) == ("elsewhere", mode)
    assert posterior.laws_are_read == MODES[mode].has_deviations


@pytest.mark.parametrize(
    "target, options, message",
    [
        ("c", {"uncertainty": "ensemble"}, "'c' `uncertainty` must .*'none'.*a mode of `tfbnn.exp"),
        ("c", {"storage": "float16"}, r"'c' `storage` must be one of \('float32', 'int8'\). Rec"),
        (
            "saved_model",
            {"storage": tfbnn.export.Storage(standard_deviations="unit")},
            r"'saved_model' `standard_deviations` must be one of \('full',\). Received: .*'unit'",
        ),
    ],
)
def test_what_a_target_has_not_is_said_with_its_name(target, options, message, tmp_path):
    with pytest.raises(ValueError, match=f"Of a file of format {message}"):
        getattr(tfbnn.export, target)(bayesian(), tmp_path / "net", check_data=X, **options)
    assert not list(tmp_path.iterdir())
