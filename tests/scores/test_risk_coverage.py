"""The risk of the most certain answers: over all orders of ties, its picture, bad input."""

import itertools

import numpy as np
import pytest

from tfbnn.scores import diagrams, risk_coverage

WRONG = np.array([True, False, True, False, True])
UNCERTAINTY = np.array([0.3, 0.1, 0.1, 0.1, 0.9])


def test_risk_is_the_mean_over_orders_of_ties():
    risks = [
        [WRONG[list(order[:k])].mean() for k in range(1, 6)]
        for order in itertools.permutations(range(5))
        if (np.diff(UNCERTAINTY[list(order)]) >= 0).all()
    ]
    curve = risk_coverage.risk_coverage(WRONG, UNCERTAINTY)
    np.testing.assert_allclose(curve.risk, np.mean(risks, axis=0))
    np.testing.assert_allclose(curve.coverage, np.arange(1, 6) / 5)
    np.testing.assert_array_equal(curve.uncertainty, np.sort(UNCERTAINTY))
    area = risk_coverage.area_under_risk_coverage(WRONG, UNCERTAINTY)
    assert area == pytest.approx(np.mean(risks))


def test_an_uncertainty_that_tells_nothing_has_the_error_as_its_area():
    area = risk_coverage.area_under_risk_coverage(WRONG, np.zeros(5))
    assert area == pytest.approx(0.6)


def test_the_picture_shows_the_numbers(tmp_path):
    figure = diagrams.risk_coverage_diagram(
        WRONG, UNCERTAINTY, tmp_path / "a.png", risk=0.05, coverage=0.4
    )
    (axes,) = figure.axes
    area = risk_coverage.area_under_risk_coverage(WRONG, UNCERTAINTY)
    assert axes.get_title() == f"5 rows\narea {area:.4f}"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[2:] == ["risk asked for: 0.05", "accepted: 40.0%"]
    np.testing.assert_allclose(axes.lines[0].get_ydata()[-1], 0.6)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "wrong, uncertainty, message",
    [
        ([], [], "`wrong` is empty"),
        ([True], [np.nan], "`uncertainty` must be finite"),
        ([True, False], [0.1], r"booleans `\(rows,\)`.*shape \(2,\).*shape \(1,\)"),
        ([[True]], [[0.1]], r"booleans `\(rows,\)`"),
        ([0.5], [0.1], "must be booleans"),
    ],
)
def test_bad_input(wrong, uncertainty, message):
    with pytest.raises(ValueError, match=message):
        risk_coverage.risk_coverage(wrong, uncertainty)
