"""The mean-field posterior: its draws have the law of the weights; one object per model."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.posterior import MeanFieldPosterior, posterior_of
from tfbnn.weights import noise

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
SEED = noise.as_seed(3)
NUM_DRAWS = 4_000


def make_model(**options):
    model = tfbnn.Sequential(
        [
            keras.Input((6,)),
            tfbnn.layers.DenseFlipout(4, **options),
            tfbnn.layers.DenseLocalReparameterization(2),
        ]
    )
    model.compile("sgd", loss=LOSS)
    spread(model)
    return model


def spread(model):
    """A posterior in which every weight has a mean and a scale of its own."""
    rng = np.random.default_rng(1)
    for weight in posterior_of(model).weights:
        weight.loc_variable.assign(rng.normal(size=weight.shape))
        weight.rho_variable.assign(rng.normal(-1, 1, size=weight.shape))


def test_draws_have_the_mean_and_the_scale_of_the_posterior():
    posterior = posterior_of(make_model())
    draws = posterior.draws(SEED, 0, NUM_DRAWS)
    assert [v.name for v in posterior.variables] == ["kernel_loc", "bias_loc"] * 2
    for draw, (loc, scale) in zip(draws, posterior.laws().values(), strict=True):
        values, loc, scale = draw.numpy(), loc.numpy(), scale.numpy()
        z = (values.mean(0) - loc) / (scale / np.sqrt(NUM_DRAWS))
        assert np.abs(z).max() < 4.5
        # The variance of n normals has the relative standard error sqrt(2 / n).
        ratio = values.var(0, ddof=1) / scale**2
        assert np.abs(ratio - 1).max() < 4.5 * np.sqrt(2 / NUM_DRAWS)


def test_draws_of_different_weights_and_numbers_are_independent():
    posterior = posterior_of(make_model())
    draws = [d.numpy().reshape(NUM_DRAWS, -1) for d in posterior.draws(SEED, 0, NUM_DRAWS)]
    flat = np.concatenate(draws, axis=1)
    correlation = np.corrcoef(flat.T)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 5 / np.sqrt(NUM_DRAWS)
    serial = [np.corrcoef(column[1:], column[:-1])[0, 1] for column in flat.T]
    assert np.abs(serial).max() < 4.5 / np.sqrt(NUM_DRAWS)


def test_pruned_weights_are_zero_in_every_draw():
    pruned = tfbnn.prune(make_model(), sparsity=0.75)
    posterior = posterior_of(pruned)
    removed = 0
    for weight, draw in zip(posterior.weights, posterior.draws(SEED, 0, 5), strict=True):
        if weight.mask is not None:
            where = weight.mask.numpy() == 0
            removed += where.sum()
            assert (draw.numpy()[:, where] == 0).all()
            assert (draw.numpy()[:, ~where] != 0).all()
    assert removed == 24


def test_network_equals_the_keras_model_with_the_means_replaced():
    model = make_model()
    posterior = posterior_of(model)
    draw = posterior.draw(SEED)
    answer = posterior.network(draw, X).numpy()
    hidden = X @ draw[0].numpy() + draw[1].numpy()
    plain = hidden @ draw[2].numpy() + draw[3].numpy()
    np.testing.assert_allclose(answer, plain, rtol=1e-4, atol=1e-5)


def test_the_posterior_of_a_model_is_one_object():
    model = make_model()
    posterior = posterior_of(model)
    assert isinstance(posterior, MeanFieldPosterior)
    assert posterior_of(model) is posterior
    assert posterior_of(posterior) is posterior
    model.fit(X, np.zeros(5, int), verbose=0)
    assert posterior_of(model) is posterior
    model.compile("sgd", loss=LOSS)
    assert posterior_of(model) is not posterior
    assert posterior_of(model).likelihoods[0] is model.likelihood


def test_keras_does_not_track_the_posterior():
    model = make_model()
    model.__dict__.pop("_posterior")
    before = [variable.path for variable in model.variables]
    posterior_of(model)
    assert [variable.path for variable in model.variables] == before


def test_training_shows_in_the_draws():
    model = make_model()
    before = tfbnn.predict(model, X, num_samples=3, seed=0).prediction
    model.fit(X, np.zeros(5, int), epochs=3, verbose=0)
    after = tfbnn.predict(model, X, num_samples=3, seed=0).prediction
    assert (after[:, 0] > before[:, 0]).all()


def unbuilt():
    model = tfbnn.Sequential([tfbnn.layers.DenseFlipout(2)])
    model.compile(loss=LOSS)
    return model


def without_random_weights():
    model = tfbnn.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(loss=LOSS)
    return model


def not_compiled():
    return tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (unbuilt, "no weights yet: train it, or build it.*Received: .*built=False"),
        (without_random_weights, "no random weights.*`tfbnn.layers`. Received: model="),
        (not_compiled, r"no likelihood: call `compile\(loss=...\)` first. Received: model="),
    ],
)
def test_models_without_a_posterior(make, message):
    with pytest.raises(ValueError, match=message):
        tfbnn.predict(make(), np.ones((2, 3)))


@pytest.mark.parametrize("other", [None, "model.keras", keras.layers.Dense(2)])
def test_no_model_of_ours(other):
    with pytest.raises(TypeError, match="a `tfbnn.Model` or a posterior. Received: model of type"):
        posterior_of(other)
