"""`tfbnn.selective` on models: what it accepts, its curve and picture, what it refuses."""

import numpy as np
import pytest

import tfbnn
from tests.decisions.test_conformal import labelled
from tests.prediction.test_labelled import make_model
from tfbnn.decisions.bounds import binomial_bound
from tfbnn.scores.risk_coverage import area_under_risk_coverage

ROWS = 300


def unsure(seed=0):
    """Rows of which those near the border are often mislabelled."""
    x, y = labelled("classes", ROWS, seed=seed)
    flipped = np.random.default_rng(seed + 1).random(ROWS) < 0.2 * np.exp(-np.abs(x).sum(axis=1))
    return x, (y + flipped) % 3


def test_what_is_accepted_is_at_most_as_uncertain_as_the_threshold():
    x, y = unsure()
    found = tfbnn.selective(make_model("classes", 0, 0.1), x, y, 0.1, num_samples=4, seed=0)
    prediction, uncertainty, accepted = found.predict(x)
    np.testing.assert_array_equal(accepted, uncertainty <= np.float32(found.threshold))
    np.testing.assert_array_equal(accepted, found.accepted(x))
    wrong = prediction.argmax(axis=-1) != y
    assert found.num_kept == accepted.sum() == round(found.coverage * ROWS)
    assert found.bound <= 0.1
    assert found.bound >= binomial_bound(wrong[accepted].sum(), accepted.sum(), 0.95)
    assert found.area == pytest.approx(area_under_risk_coverage(wrong, uncertainty))
    assert found.curve.risk[-1] == pytest.approx(wrong.mean())


def test_it_has_a_picture(tmp_path):
    x, y = unsure()
    found = tfbnn.selective(make_model("classes", 0, 0.1), x, y, 0.1, num_samples=4, seed=0)
    figure = found.plot(tmp_path / "risk.png", title="300 rows of a test")
    assert figure.axes[0].get_title().startswith("300 rows of a test\narea ")
    assert (tmp_path / "risk.png").exists()


@pytest.mark.parametrize("name", ["yes or no", "normal"])
def test_one_answer_a_row_is_decided_on(name):
    x, y = labelled(name, ROWS)
    settings = {"risk": 0.1, "num_samples": 4, "seed": 0}
    if name == "normal":
        with pytest.raises(ValueError, match=r"one answer a row.*labels of shape \(300, 2\)"):
            tfbnn.selective(make_model(name, 0, 0.1), x, y, tolerance=1.0, **settings)
        return
    assert tfbnn.selective(make_model(name, 0, 0.1), x, y, **settings).accepted(x).shape == (ROWS,)


def number_model():
    import keras

    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(1)])
    model.compile(loss=tfbnn.losses.NormalNLL(0.1))
    return model


def test_real_numbers_are_wrong_by_more_than_a_tolerance():
    model = number_model()
    x = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
    y = tfbnn.predict(model, x, 4, seed=0).prediction + 0.5 * (np.abs(x[:, :1]) > 1.5)
    found = tfbnn.selective(model, x, y, 0.3, tolerance=0.4, num_samples=4, seed=0)
    assert found.curve.risk[-1] == pytest.approx((np.abs(x[:, 0]) > 1.5).mean())
    with pytest.raises(ValueError, match="pass `tolerance=`.*tolerance=None"):
        tfbnn.selective(model, x, y, num_samples=2)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"risk": 0.0}, "`risk` must be a number strictly between 0 and 1"),
        ({"confidence": 1}, "`confidence` must be a number strictly between 0 and 1"),
        ({"tolerance": 1.0}, "`tolerance` is for real numbers.*tolerance=1.0"),
        ({"risk": 0.001}, "needs 2995 labelled rows or more.*Received: 300 rows"),
        ({"risk": 0.01}, "No threshold keeps the risk at 0.01|needs"),
    ],
)
def test_bad_arguments(settings, message):
    x, y = unsure()
    y = np.where(np.arange(ROWS) % 3 == 0, (y + 1) % 3, y)
    with pytest.raises(ValueError, match=message):
        tfbnn.selective(make_model("classes", 0, 0.1), x, y, **settings)


def test_another_network_is_an_error():
    x, y = unsure()
    model = make_model("classes", 0, 0.1)
    found = tfbnn.selective(model, x, y, 0.1, num_samples=4)
    model.layers[0].kernel.loc_variable.assign(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="the network has changed since"):
        found.accepted(x)
