"""What cannot be approximated is refused, with what to do instead."""

import keras
import numpy as np
import pytest

import tfbnn
from tests.posterior.laplace.networks import LOSS, made
from tfbnn.posterior.laplace.fitting import Fitted
from tfbnn.posterior.laplace.spectra import not_negative
from tfbnn.weights import noise

K = keras.layers
Laplace = tfbnn.posteriors.Laplace
X, Y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 0])


def network(*layers, loss=LOSS, **options):
    model = keras.Sequential([keras.Input((4,)), *layers, K.Dense(3, **options)])
    model.compile("sgd", loss=loss)
    return model


def refused(message, *given, error=ValueError, **options):
    with pytest.raises(error, match=message):
        Laplace(*given, **{"verbose": 0, **options})


def test_models_without_an_approximation():
    refused("must be a Keras model", "model", X, Y, error=TypeError)
    random = tfbnn.Sequential([keras.Input((4,)), tfbnn.layers.Dense(3)])
    random.compile(loss=LOSS)
    refused("random already.*plain Keras model", random, X, Y, error=TypeError)
    refused("no likelihood", keras.Sequential([keras.Input((4,)), K.Dense(3)]), X, Y)
    refused("negative log likelihood", network(loss="hinge"), X, Y)
    frozen = network(trainable=False)
    refused("No layer has weights that could be random.*not trained", frozen, X, Y)


def test_weights_that_are_no_numbers():
    model = network()
    model.layers[0].kernel.assign(np.full((4, 3), np.nan))
    refused("the weights of the model.*NaN.*12 of 12 elements", model, X, Y)


def test_a_network_too_large_says_what_to_use_instead():
    model = network(K.Dense(2000))
    message = "up to 5,000 weights.*'kronecker'.*Received: structure='full' with 16,003 weights"
    refused(message, model, X, Y, "full")
    refused("structure='last_layer' with 6,003 weights", model, X, Y)
    Laplace(model, X, Y, "kronecker", prior_precision=1.0, verbose=0)


def test_data_that_cannot_be_learnt_from():
    model = network()
    refused("pass arrays `x` and `y`", model, X)
    refused("same number of rows", model, X, Y[:2])
    refused("NaN", model, X * np.nan, Y)
    refused("from 0 to 2", model, X, Y + 3)
    refused("no row", model, X[:0], Y[:0])


def test_arguments():
    model = network()
    refused("`structure` must be one of", model, X, Y, "block")
    refused("`predictive` must be one of", model, X, Y, predictive="probit")
    refused("'consistent' or 'marginal_likelihood' or .*Received", model, X, Y, prior_precision=0)
    refused("validation_data=.*None", model, X, Y, prior_precision="validation")
    refused("Received: prior_precision='consistent'", model, X, Y, validation_data=(X, Y))


def test_too_many_outputs_for_an_exact_curvature():
    model = keras.Sequential([keras.Input((4,)), K.Dense(1200), K.Reshape((400, 3))])
    model.compile(loss=LOSS)
    y = np.zeros((4, 400), int)
    refused("`curvature='sampled'`", model, X, y, "kronecker", "exact", prior_precision=1.0)


def test_weights_far_from_a_mode_are_said_in_numbers():
    model = network()
    x = np.repeat(X, 200, axis=0)
    model.layers[0].bias.assign([0, 0, 4])
    with pytest.warns(UserWarning, match=r"far from a mode.*is [\d.]+ times.*up to 10 times"):
        Laplace(model, x, np.zeros(800, int), prior_precision=1.0, verbose=0)
    Fitted({}, 1, 0.0, 9.0).check_distance()


def test_a_curvature_without_a_law():
    assert (not_negative("a", np.array([-1e-9, 1.0])) == [0, 1]).all()
    for values in ([-0.5, 1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="no negative eigenvalue.*eigenvalues of a from"):
            not_negative("a", np.array(values))


def test_layers_that_are_not_covered_are_named():
    class Own(K.Dense):
        pass

    posterior = Laplace(
        network(Own(5), K.PReLU()), X, Y, "diagonal", prior_precision=1.0, verbose=0
    )
    reasons = [row.reason for row in posterior.coverage.layers]
    assert reasons == ["a subclass of Dense, which may compute something else"] + [
        "nothing is known of PReLU",
        "",
    ]
    assert posterior.with_laws() is None


def test_closed_forms_are_those_of_draws():
    model, x, y = made("dense")
    posterior = Laplace(model, x, y, "kronecker", prior_precision=5.0, verbose=0)
    mean, covariance = posterior.output_moments(x)

    outputs = posterior.outputs(posterior.draws(noise.as_seed(0), 0, 4000), x).numpy()
    deviations = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    assert (np.abs(outputs.mean(0) - mean) < 4.5 * deviations / np.sqrt(4000)).all()
    found = np.einsum("krc,krd->rcd", outputs - mean, outputs - mean) / 4000
    size = deviations[:, :, None] * deviations[:, None]
    assert (np.abs(found - covariance) < 4.5 * size * np.sqrt(2 / 4000)).all()
    np.testing.assert_allclose(posterior.probit(x).sum(-1), 1, rtol=1e-5)
    drawn = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    assert np.abs(posterior.probit(x) - drawn.mean(0)).max() < 0.05
