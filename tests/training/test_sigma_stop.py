"""Training stops when sigma is where the objective wants it, and not before."""

import warnings

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.callbacks import StopWhenSigmaSettles

RNG = np.random.default_rng(0)
FEATURES, NOISE = 40, 0.5
X = RNG.normal(size=(320, FEATURES)).astype("float32")
Y = (X @ RNG.normal(size=(FEATURES, 1)) + NOISE * RNG.normal(size=(320, 1))).astype("float32")
# Where the regression ends, under the prior N(0, 1).
EXACT = (np.square(X).sum(0) / NOISE**2 + 1) ** -0.5


def fitted(stop, epochs=400, rate=0.01, initial_scale=0.0067, kernel_prior="normal", **options):
    keras.utils.set_random_seed(0)
    family = tfbnn.families.Normal(initial_scale)
    laws = {"kernel_prior": kernel_prior, "kernel_posterior": family}
    one = tfbnn.layers.Dense(1, use_bias=False, **laws)
    model = tfbnn.Sequential([keras.Input((FEATURES,)), one])
    model.compile(keras.optimizers.Adam(rate), loss=tfbnn.losses.NormalNLL(NOISE), **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", tfbnn.ConvergenceWarning)
        model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[stop])
    return model, [str(one.message) for one in caught]


def test_sigma_is_the_exact_one_where_training_stops():
    stop = StopWhenSigmaSettles()
    model, warned = fitted(stop)
    assert 10 < stop.stopped_epoch < 400 and len(stop.pulls) == stop.stopped_epoch
    assert all(abs(pull) <= 0.1 for pull in stop.pulls[-3:])
    ratio = np.ravel(model.layers[0].kernel.scale) / EXACT
    # A pull of 0.1 is 5 %, and single weights are noisy.
    assert np.exp(np.log(ratio).mean()) == pytest.approx(1.0, abs=0.1)
    assert not [one for one in warned if "Sigma" in one]


def test_a_rate_that_moves_nothing_is_no_end():
    """Sigma stands still, but at its start, and the KL still pulls."""
    stop = StopWhenSigmaSettles()
    fitted(stop, epochs=6, rate=1e-6, initial_scale=1e-4)
    assert stop.stopped_epoch == 0 and min(stop.pulls[1:]) > 0.9


def test_while_the_kl_warms_up_it_goes_on():
    # Every pull is small enough; of the ten steps of the first epoch too few are known.
    epochs = 8
    stop = StopWhenSigmaSettles(largest_pull=10.0, patience=1)
    fitted(stop, epochs, kl_schedule=tfbnn.schedules.LinearWarmUp(epochs=5))
    assert stop.stopped_epoch == 6
    fitted(stop, epochs)
    assert stop.stopped_epoch == 2
    fitted(stop, epochs, kl_schedule="minibatch_weights")
    assert stop.stopped_epoch == 2


def test_patience_is_that_of_epochs_in_a_row():
    stop = StopWhenSigmaSettles(largest_pull=10.0, patience=4)
    fitted(stop, epochs=8)
    assert stop.stopped_epoch == 5 and np.isnan(stop.pulls[0])


def test_a_second_fit_begins_anew():
    stop = StopWhenSigmaSettles(largest_pull=10.0, patience=2)
    model, _ = fitted(stop, epochs=8)
    model.fit(X, Y, epochs=8, verbose=0, callbacks=[stop])
    assert stop.stopped_epoch == 3 and len(stop.pulls) == 3


def test_models_that_it_cannot_read_are_refused():
    plain = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(1)])
    plain.compile("adam", "mse")
    with pytest.raises(TypeError, match="`fit` of a `tfbnn.Sequential`"):
        plain.fit(X, Y, verbose=0, callbacks=[StopWhenSigmaSettles()])
    nothing = tfbnn.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(1)])
    nothing.compile(tfbnn.optimizers.IVON(0.1), loss=tfbnn.losses.NormalNLL(NOISE))
    with pytest.raises(ValueError, match="no random weights that are trained"):
        nothing.fit(X, Y, verbose=0, callbacks=[StopWhenSigmaSettles()])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"largest_pull": 0}, "`largest_pull`"), ({"patience": 0}, "`patience`")],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        StopWhenSigmaSettles(**options)
