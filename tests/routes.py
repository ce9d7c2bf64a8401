"""Every kind of posterior, small and made at once: the tests of all uses run over `ROUTES`."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np

import tfbnn
from tfbnn.posterior.mean_field import MeanFieldPosterior
from tfbnn.posterior.routes import posterior_of
from tfbnn.posterior.swag import WeightMoments, collected_variables

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
ROWS = 12
K = keras.layers


@dataclasses.dataclass(frozen=True)
class Route:
    """A posterior, and what it has.

    Attributes:
        make: Makes it.
        has: Out of `"laws"` (of each weight), `"layers"` (which are a model of tfbnn, with these
            laws), `"taught"` (its own layers hold them), `"own"` (so they do the mean), `"mean"`
            (a network), `"drawn"` (in a graph, one model, no end of networks), `"classes"`, `"C"`
            (there is C for every layer).
        shape: Shape of one row.
    """

    make: Callable[[], object]
    has: frozenset[str]
    shape: tuple[int, ...] = (5,)

    @property
    def x(self):
        return np.random.default_rng(1).normal(size=(ROWS, *self.shape)).astype("float32")

    @property
    def y(self):
        if "classes" in self.has:
            return np.arange(ROWS) % 3
        return np.random.default_rng(2).normal(size=(ROWS, 2)).astype("float32")


def _compiled(model, loss=LOSS):
    model.compile("sgd", loss=loss)
    # Biases are zero at first, and would hide where they are left out.
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if variable.name.startswith("bias"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def adapted():
    """A layer that keeps numbers which are no variables of the model."""
    layer = K.Normalization()
    layer.adapt(np.random.default_rng(3).normal(1, 2, (50, 5)))
    return layer


def bayesian(loss=LOSS, outputs=3, base=tfbnn.Sequential, first=()):
    """A model whose draws differ much."""
    family = tfbnn.families.Normal(0.3)
    kl_weight = {"kl_weight": 0.1} if base is keras.Sequential else {}
    layers = [
        tfbnn.layers.DenseFlipout(n, activation, kernel_posterior=family, **kl_weight)
        for n, activation in ((6, "relu"), (outputs, None))
    ]
    model = _compiled(base([keras.Input((5,)), *first, *layers]), loss)
    if base is tfbnn.Sequential:
        model.num_examples = ROWS
    return model


def plain(units=6, loss=LOSS, outputs=3):
    """A Keras model without anything random."""
    layers = [K.Dense(units, "relu"), K.BatchNormalization(), K.Dense(outputs)]
    return _compiled(keras.Sequential([keras.Input((5,)), *layers]), loss)


def dense():
    """A Keras model of layers with random namesakes alone."""
    return _compiled(keras.Sequential([keras.Input((5,)), K.Dense(6, "relu"), K.Dense(3)]))


def with_dropout(loss=LOSS, outputs=3, **options):
    layers = [K.Dense(8, "relu"), K.BatchNormalization(), K.Dropout(0.5), K.Dense(outputs)]
    return _compiled(keras.Sequential([keras.Input((5,)), *layers]), loss, **options)


def sequences():
    """Noise of every kind, and a recurrent layer."""
    layers = [
        K.SpatialDropout1D(0.3),
        K.GaussianNoise(0.2),
        K.LSTM(4, dropout=0.3, recurrent_dropout=0.3, unroll=True),
        K.GaussianDropout(0.2),
        K.AlphaDropout(0.2),
        K.Dense(3),
    ]
    return _compiled(keras.Sequential([keras.Input((4, 3)), *layers]))


def other_laws(factor=2.0):
    """The laws of a model with larger means and standard deviations than its layers have."""
    model = bayesian()
    laws = posterior_of(model).laws()
    moved = {weight: (factor * loc, 0.5 * scale) for weight, (loc, scale) in laws.items()}
    return tfbnn.posteriors.GaussianPosterior(model, model.likelihoods, moved)


class Wider(MeanFieldPosterior):
    """Draws wider than its laws say, which nothing may hide."""

    def draw(self, seed):
        pairs = zip(super().draw(seed), self.mean(), strict=True)
        return [mean + 3.0 * (draw - mean) for draw, mean in pairs]


def ivon():
    """Plain layers with the law that their optimizer has learnt."""
    layers = [K.Dense(6, "relu"), K.Dense(3)]
    model = tfbnn.Sequential([keras.Input((5,)), *layers])
    model.compile(tfbnn.optimizers.IVON(0.1, seed=0), loss=LOSS)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 5)).astype("float32")
    model.fit(x, np.arange(ROWS) % 3, verbose=0)
    return tfbnn.posteriors.IVON(model)


def noisy(scale):
    """A regression that has learned a noise."""
    model = bayesian(tfbnn.losses.NormalNLL(scale="learned", num_scales=2), 2)
    model.likelihood.loss.assign_scale(scale)
    return model


def tied():
    """A regression with dropout, whose precision follows from its training."""
    model = with_dropout("mse", 2)
    return tfbnn.posteriors.MCDropout(model, length_scale=0.5, num_examples=50, weight_decay=1e-2)


def swag(rank=3, make=plain):
    """The moments of a training that has moved about much."""
    model, rng = make(), np.random.default_rng(4)
    at = [one.coordinates() for one in collected_variables(model)]
    moments = WeightMoments(
        at,
        [np.full_like(one, 0.05) for one in at],
        [rng.normal(0, 0.3, (rank, *one.shape)) for one in at],
    )
    return tfbnn.posteriors.SWAG(model, moments)


def ensemble(*members):
    return tfbnn.posteriors.Ensemble([make() for make in members])


def _mixed():
    return ensemble(plain, bayesian)


def laplace(structure="last_layer", predictive="linearised", hidden=plain):
    """Laplace's approximation of a network that was not trained."""
    x, y = np.random.default_rng(4).normal(size=(60, 5)), np.arange(60) % 3
    return tfbnn.posteriors.Laplace(
        hidden(), x, y, structure, "sampled", 1.0, predictive=predictive, verbose=0
    )


def mcmc(make=dense):
    """Chains of a small network, as short as they may be."""
    x, y = np.random.default_rng(4).normal(size=(30, 5)), np.arange(30) % 3
    options = {"samples": 200, "warmup": 200, "seed": 0, "verbose": 0}
    return tfbnn.posteriors.MCMC(make(), x, y, "hmc", 0.5, **options)


CLASSES, NETWORK = frozenset({"classes"}), frozenset({"mean"})
LAWS = frozenset({"laws", "layers", "mean", "drawn", "C"})

ROUTES = {
    "mean field": Route(
        lambda: posterior_of(bayesian(first=[adapted()])), CLASSES | LAWS | {"taught", "own"}
    ),
    "mean field, plain Keras": Route(
        lambda: posterior_of(bayesian(base=keras.Sequential)), CLASSES | (LAWS - {"layers", "C"})
    ),
    "other laws": Route(other_laws, CLASSES | LAWS),
    "dropout": Route(
        lambda: tfbnn.posteriors.MCDropout(with_dropout()),
        CLASSES | {"mean", "drawn", "C", "taught", "own"},
    ),
    "dropout, sequences": Route(
        lambda: tfbnn.posteriors.MCDropout(sequences()),
        CLASSES | {"mean", "drawn", "taught", "own"},
        (4, 3),
    ),
    "dropout, numbers": Route(tied, frozenset({"mean", "drawn", "C", "taught", "own"})),
    "ensemble": Route(lambda: ensemble(plain, lambda: plain(4), plain), CLASSES),
    "ensemble, mixed": Route(_mixed, CLASSES),
    "ensemble, numbers": Route(
        lambda: ensemble(lambda: noisy([0.3, 1.0]), lambda: noisy([2.0, 0.1])), frozenset()
    ),
    "swag": Route(swag, CLASSES | {"mean", "drawn", "C"}),
    "swag, diagonal": Route(lambda: swag(0, dense), CLASSES | LAWS),
    "swag, several": Route(lambda: ensemble(swag, swag), CLASSES),
    "ivon": Route(ivon, CLASSES | LAWS | {"own"}),
    "laplace, last layer": Route(laplace, CLASSES | {"mean", "drawn", "C", "taught", "own"}),
    "laplace, kronecker": Route(
        lambda: laplace("kronecker"), CLASSES | {"mean", "drawn", "C", "taught", "own"}
    ),
    "laplace, diagonal": Route(
        lambda: laplace("diagonal", "sampled", dense), CLASSES | LAWS | {"own"}
    ),
    "mcmc": Route(mcmc, CLASSES | {"C"}),
    "map": Route(
        lambda: tfbnn.posteriors.MAP(plain()), CLASSES | {"mean", "C", "taught", "own"}
    ),
}  # fmt: skip


@functools.cache
def made(name):
    """A posterior that the tests share, and leave as it was."""
    keras.utils.set_random_seed(0)
    return ROUTES[name].make()
