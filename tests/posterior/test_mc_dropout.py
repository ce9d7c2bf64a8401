"""MC dropout: one mask for a network, moments of every noise, recurrent masks by hand, errors."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.posterior.mc_dropout import MCDropout
from tfbnn.weights import noise

K = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SEED = noise.as_seed(5)
# A chance of 1e-5 for each of the few numbers that a test compares.
ERRORS = 4.5


def dropout(*layers, shape=(6,), loss=LOSS, **options):
    model = keras.Sequential([keras.Input(shape), *layers])
    model.compile(loss=loss)
    return MCDropout(model, **options)


def rows(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_the_mean_of_a_linear_network_is_that_of_inference():
    posterior = dropout(K.Dense(20), K.Dropout(0.4), K.Dense(3))
    x = rows(4, 6)
    outputs = posterior.outputs(posterior.draws(SEED, 0, 2000), x).numpy()
    error = outputs.std(axis=0) / np.sqrt(len(outputs))
    assert (np.abs(outputs.mean(axis=0) - posterior.model(x)) < ERRORS * error).all()
    np.testing.assert_allclose(posterior.network(posterior.mean(), x), posterior.model(x))


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_the_share_that_is_dropped(rate):
    (masks,) = dropout(K.Dropout(rate), shape=(50,)).draws(SEED, 0, 400)
    dropped = masks.numpy() == 0
    assert abs(dropped.mean() - rate) < ERRORS * np.sqrt(rate * (1 - rate) / dropped.size)
    np.testing.assert_allclose(masks.numpy()[~dropped], 1 / (1 - rate), rtol=1e-6)


def test_one_mask_for_all_rows_and_batches():
    posterior = dropout(K.Dense(20, "relu"), K.Dropout(0.5), K.Dense(3))
    x = np.repeat(rows(1, 6), 5, axis=0)
    draws = posterior.draws(SEED, 0, 4)
    outputs = posterior.outputs(draws, x).numpy()
    np.testing.assert_allclose(outputs, np.repeat(outputs[:, :1], 5, axis=1), atol=1e-6)
    np.testing.assert_allclose(posterior.outputs(draws, x[:2]), outputs[:, :2], atol=1e-6)
    assert len(np.unique(outputs[:, 0, 0].round(5))) == 4


def test_batch_normalization_stays_in_inference():
    normalization = K.BatchNormalization()
    posterior = dropout(K.Dense(8), normalization, K.Dropout(0.5), K.Dense(3))
    normalization.moving_mean.assign(rows(8))
    normalization.moving_variance.assign(np.square(rows(8)) + 0.1)
    before, x = [np.array(v) for v in posterior.model.variables], rows(7, 6)
    (values,) = posterior.networks(posterior.draws(SEED, 0, 1))
    dense, _, _, last = posterior.model.layers
    hidden = normalization(dense(x), training=False) * values[0]
    np.testing.assert_allclose(posterior.network(values, x), last(hidden), atol=1e-5)
    for value, variable in zip(before, posterior.model.variables, strict=True):
        np.testing.assert_array_equal(value, variable)


# Klambauer et al. 2017, "Self-Normalizing Neural Networks", sec. on dropout: what units are set to.
ALPHA = -1.7580993408473766


def _alpha(rate):
    scale = ((1 - rate) * (1 + rate * ALPHA**2)) ** -0.5
    return scale * (1 - rate), lambda x: scale**2 * (x - ALPHA) ** 2 * rate * (1 - rate)


# Mean as a multiple of the input, and variance.
NOISES = {
    "dropout": (K.Dropout(0.3), 1.0, lambda x: x**2 * 0.3 / 0.7),
    "gaussian dropout": (K.GaussianDropout(0.3), 1.0, lambda x: x**2 * 0.3 / 0.7),
    "gaussian noise": (K.GaussianNoise(0.4), 1.0, lambda x: 0.16),
    "alpha": (K.AlphaDropout(0.3), *_alpha(0.3)),
}


@pytest.mark.parametrize("name", NOISES)
def test_moments_of_the_noise(name):
    layer, factor, variance = NOISES[name]
    for input_value in (-1.5, 0.5):
        posterior = dropout(layer, shape=(40,))
        x = np.full((1, 40), input_value, np.float32)
        found = posterior.outputs(posterior.draws(SEED, 0, 500), x).numpy().ravel().astype(float)
        centred = found - factor * input_value
        wanted = variance(input_value)
        assert abs(centred.mean()) < ERRORS * np.sqrt(wanted / found.size)
        squares = np.square(centred)
        assert abs(squares.mean() - wanted) < ERRORS * squares.std() / np.sqrt(found.size) + 1e-6


def test_whole_channels_are_dropped():
    (masks,) = dropout(K.SpatialDropout1D(0.5), shape=(7, 30)).draws(SEED, 0, 20)
    masks = np.broadcast_to(masks, (20, 1, 7, 30))
    assert (masks == masks[:, :, :1]).all()
    assert {0.0, 2.0} == set(np.unique(masks))


def by_hand(layer, x, kept, kept_states):
    """A recurrent layer in NumPy, with the same masks, one for each gate, at each step."""
    kernel, recurrent, bias = (
        np.split(np.array(weight), len(kept), axis=-1) for weight in layer.cell.get_weights()
    )
    state = carry = np.zeros((len(x), layer.units), np.float32)
    for step in range(x.shape[1]):
        z = [
            (x[:, step] * kept[gate]) @ kernel[gate]
            + (state * kept_states[gate]) @ recurrent[gate]
            + bias[gate]
            for gate in range(len(kept))
        ]
        if isinstance(layer, K.SimpleRNN):
            state = np.tanh(z[0])
            continue
        i, f, o = (1 / (1 + np.exp(-z[gate])) for gate in (0, 1, 3))
        carry = f * carry + i * np.tanh(z[2])
        state = o * np.tanh(carry)
    return state


@pytest.mark.parametrize("make", [K.SimpleRNN, K.LSTM])
def test_recurrent_masks_are_the_same_at_all_steps(make):
    layer = make(8, dropout=0.4, recurrent_dropout=0.3)
    posterior = dropout(layer, K.Dense(3), shape=(5, 6))
    x = rows(4, 5, 6)
    draws = posterior.draws(SEED, 0, 2)
    outputs = posterior.outputs(draws, x)
    for number, values in enumerate(posterior.networks(draws)):
        gates = len(values) // 2
        kept, kept_states = values[:gates], values[gates:]
        for masks, keep in ((kept, 0.6), (kept_states, 0.7)):
            assert {*np.unique(masks)} <= {0.0, np.float32(1 / keep)}
        state = by_hand(layer, x, kept, kept_states)
        np.testing.assert_allclose(outputs[number], posterior.model.layers[-1](state), atol=1e-5)
    np.testing.assert_allclose(
        posterior.network(posterior.mean(), x), posterior.model(x), atol=1e-6
    )


def test_layers_are_as_they_were():
    posterior = dropout(K.Dropout(0.5), K.LSTM(3, dropout=0.2), K.Dense(3), shape=(4, 2))
    before = [set(vars(layer)) for layer in posterior.model.layers]
    posterior.outputs(posterior.draws(SEED, 0, 2), rows(3, 4, 2))
    assert [set(vars(layer)) for layer in posterior.model.layers] == before
    assert "call" not in {name for names in before for name in names}


# The precision that goes with dropout and weight decay.

RATE, LENGTH_SCALE, DECAY, EXAMPLES, TARGETS = 0.4, 0.7, 0.03, 40, 2


def tied():
    dense = K.Dense(TARGETS, use_bias=False, kernel_regularizer=keras.regularizers.L2(DECAY))
    tying = {"length_scale": LENGTH_SCALE, "num_examples": EXAMPLES, "weight_decay": DECAY}
    return dropout(K.Dropout(RATE), dense, loss="mse", **tying)


def test_the_loss_is_proportional_to_the_log_posterior():
    """With this precision Keras' loss is a log posterior whose prior has `keep * length_scale**2`.

    The loss is of all rows without dropout; log posterior and loss are compared at several weights,
    so that each factor counts.
    """
    posterior = tied()
    (kernel,), x = posterior.model.trainable_variables, rows(EXAMPLES, 6)
    y = rows(EXAMPLES, 6)[:, :TARGETS] @ rows(TARGETS, TARGETS)
    (likelihood,) = posterior.likelihoods
    precision = likelihood.loss.scale**-2
    losses, log_posteriors = [], []
    for seed in range(3):
        kernel.assign(np.random.default_rng(seed).normal(size=kernel.shape))
        outputs = posterior.model(x)
        losses.append(float(keras.losses.mean_squared_error(y, outputs).numpy().mean()))
        losses[-1] += float(sum(posterior.model.losses))
        log_prior = -0.5 * (1 - RATE) * LENGTH_SCALE**2 * np.square(kernel).sum()
        log_posteriors.append(likelihood.log_prob(y, outputs).numpy().sum() + log_prior)
    factor = -0.5 * precision * EXAMPLES * TARGETS
    np.testing.assert_allclose(np.diff(log_posteriors), factor * np.diff(losses), rtol=1e-4)


def test_the_minimum_is_the_mean_of_the_conjugate_posterior():
    posterior = tied()
    precision = posterior.likelihoods[0].loss.scale ** -2
    x = rows(EXAMPLES, 6).astype(float)
    y = x[:, :TARGETS] + 0.1
    # Ridge regression: the minimum of mean(square(y - x @ w)) + decay * sum(square(w)).
    ridge = np.linalg.solve(x.T @ x + EXAMPLES * TARGETS * DECAY * np.eye(6), x.T @ y)
    # Bishop 2006, "Pattern Recognition and Machine Learning", eq. 3.53 and 3.54.
    of_posterior = (1 - RATE) * LENGTH_SCALE**2 * np.eye(6) + precision * x.T @ x
    mean = precision * np.linalg.solve(of_posterior, x.T @ y)
    np.testing.assert_allclose(ridge, mean, rtol=1e-5)


def test_the_precision_needs_one_rate():
    options = {"length_scale": 1.0, "num_examples": 10, "weight_decay": 0.1}
    with pytest.raises(ValueError, match="one rate of dropout.*Received: rates.*0.2, 0.5"):
        dropout(K.Dropout(0.2), K.Dense(2), K.Dropout(0.5), loss="mse", **options)
    with pytest.raises(ValueError, match="or follows from `length_scale`.*Received: loss="):
        MCDropout(tied().model, loss=tfbnn.losses.NormalNLL(0.1), **options)
    with pytest.raises(ValueError, match="`num_examples`.*Received: num_examples="):
        dropout(K.Dropout(0.2), loss="mse", length_scale=1.0, weight_decay=0.1)
    with pytest.raises(ValueError, match="`weight_decay`.*Received: weight_decay=0"):
        dropout(K.Dropout(0.2), loss="mse", **{**options, "weight_decay": 0.0})


# What is refused.


def test_without_a_precision_the_mean_squared_error_is_no_likelihood():
    with pytest.raises(ValueError, match="NormalNLL"):
        dropout(K.Dropout(0.5), K.Dense(2), loss="mse")


@pytest.mark.parametrize("layers", [[K.Dense(3)], [K.Dropout(0.0), K.Dense(3)]])
def test_a_network_without_dropout(layers):
    with pytest.raises(ValueError, match=r"no dropout: .*Ensemble`. Received: model='\w+'"):
        dropout(*layers)


def test_random_weights():
    with pytest.raises(TypeError, match="random already.*plain Keras model. Received: model="):
        dropout(K.Dropout(0.5), tfbnn.layers.DenseFlipout(3, kl_weight=0.1))


def test_no_model():
    with pytest.raises(TypeError, match="a Keras model"):
        MCDropout("model")


def test_sizes_that_are_not_known():
    with pytest.raises(ValueError, match="give `keras.Input` all of them. .*None, 3"):
        dropout(K.Dropout(0.5), K.LSTM(3), K.Dense(3), shape=(None, 3))


def test_channels_of_sizes_that_are_not_known():
    with pytest.raises(ValueError, match="give `keras.Input` all of them"):
        dropout(K.SpatialDropout1D(0.5), K.LSTM(3), K.Dense(3), shape=(None, 3))


def test_one_layer_with_inputs_of_two_shapes():
    inputs, shared = keras.Input((4,)), K.Dropout(0.5)
    outputs = K.Dense(3)(shared(K.Dense(5)(shared(inputs))))
    model = keras.Model(inputs, outputs)
    model.compile(loss=LOSS)
    message = r"a layer for each. Received: shapes \[\(4,\), \(5,\)\] in the layer 'dropout"
    with pytest.raises(ValueError, match=message):
        MCDropout(model)


def test_one_layer_called_twice_has_one_mask():
    inputs, shared = keras.Input((4,)), K.Dropout(0.5)
    model = keras.Model(inputs, shared(K.Identity()(shared(inputs))))
    model.compile(loss=LOSS)
    posterior = MCDropout(model)
    (values,) = posterior.networks(posterior.draws(SEED, 0, 1))
    x = rows(3, 4)
    np.testing.assert_allclose(posterior.network(values, x), x * np.square(values[0]), rtol=1e-6)


def test_two_inputs_by_name():
    inputs = {"one": keras.Input((4,), name="one"), "two": keras.Input((3,), name="two")}
    joined = K.Concatenate()([K.Dropout(0.5)(inputs["one"]), inputs["two"]])
    model = keras.Model(inputs, K.Dense(3)(joined))
    model.compile(loss=LOSS)
    x = {"one": rows(5, 4), "two": rows(5, 3)}
    prediction, _ = tfbnn.predict(MCDropout(model), x, num_samples=3, seed=0, verbose=0)
    assert prediction.shape == (5, 3) and np.isfinite(prediction).all()
