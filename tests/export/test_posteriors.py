"""What reads the law of the weights from the layers takes their posterior, and no other."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.export.c_source import exporter
from tfbnn.posterior import MeanFieldPosterior, posterior_of
from tfbnn.posterior.base import AbstractRandomVariables
from tfbnn.pruning import masks

X = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
Y = np.arange(8) % 3


class Wider(MeanFieldPosterior):
    """Draws wider than its layers say."""

    def draw(self, seed):
        pairs = zip(super().draw(seed), self.mean(), strict=True)
        return [mean + 3.0 * (draw - mean) for draw, mean in pairs]


class Fixed(AbstractRandomVariables):
    """Another route: one network."""

    @property
    def variables(self):
        return [self.model.layers[0].kernel.loc_variable]

    def draw(self, seed):
        return self.mean()

    def mean(self):
        return [variable.value for variable in self.variables]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    family = tfbnn.families.Normal(0.3)
    layers = [
        tfbnn.layers.DenseFlipout(n, "relu" if n > 3 else None, kernel_posterior=family)
        for n in (8, 3)
    ]
    model = tfbnn.Sequential([keras.Input((5,)), *layers])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def exported(name, *arguments, **options):
    def use(given, folder):
        path = folder / "net"
        manifest = getattr(tfbnn.export, name)(given, path, *arguments, check_data=X, **options)
        return {key: manifest[key] for key in ("input_shape", "sparsity", "likelihood", "mode")}

    return use


def distilled(given, folder):
    answers = tfbnn.predict(given, X, num_samples=4, seed=0, verbose=0)
    return tfbnn.distill(given, X, answers, epochs=1, learning_rate=1e-9, verbose=0).history


def kernels(model):
    return [kernel.loc.numpy().tolist() for kernel in masks.prunable_weights(model)]


USES = {
    "prune": lambda given, _: kernels(tfbnn.prune(given, sparsity=0.5)),
    "compact": lambda given, _: kernels(tfbnn.compact(given)),
    "pruning_curve": lambda given, _: (
        tfbnn.pruning_curve(given, X, Y, [0.0, 0.5], verbose=0).rows
    ),
    "distill": distilled,
    "tflite, moments": exported("tflite", "moments"),
    "tflite, none": exported("tflite", "none"),
    "saved_model": exported("saved_model", "none"),
    "c": exported("c"),
}  # fmt: skip


@pytest.mark.parametrize("name", USES)
def test_a_mean_field_posterior_is_used_as_its_model_is(name, model, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "compiler", lambda: None)
    found = []
    for number, given in enumerate((model, posterior_of(model))):
        (tmp_path / str(number)).mkdir()
        found.append(USES[name](given, tmp_path / str(number)))
    assert found[0] == found[1]


@pytest.mark.parametrize("route", [Wider, Fixed])
@pytest.mark.parametrize("name", USES)
def test_any_other_posterior_is_refused(name, route, model, tmp_path):
    posterior = Fixed(model, model.likelihoods) if route is Fixed else Wider(model)
    message = f"exactly `MeanFieldPosterior`.*calibrate` take any.*model of type {route.__name__}"
    with pytest.raises(TypeError, match=message):
        USES[name](posterior, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_the_message_says_works(model):
    posterior = Wider(model)
    wide, narrow = (
        tfbnn.predict(given, X, num_samples=64, seed=0, verbose=0).mutual_information.mean()
        for given in (posterior, model)
    )
    assert wide > 2 * narrow
    assert tfbnn.evaluate(posterior, X, Y, num_samples=4, seed=0, verbose=0).nll > 0


@pytest.mark.parametrize("name", USES)
def test_what_is_no_model_of_tfbnn_is_refused(name, tmp_path):
    plain = keras.Sequential([keras.Input((5,)), tfbnn.layers.DenseFlipout(3, kl_weight=0.1)])
    plain.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(TypeError, match="`tfbnn.Sequential`.*model of type Sequential"):
        USES[name](plain, tmp_path)
