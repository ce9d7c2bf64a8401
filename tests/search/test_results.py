import pytest
from matplotlib.image import imread

from tfbnn import search


def _row(number, score, **hyperparameters):
    return {
        "trial": str(number),
        "status": "FAILED" if score is None else "COMPLETED",
        "score": score,
        "hyperparameters": {"estimator": "Flipout", "tuner/bracket": number, **hyperparameters},
        "scores": {},
        "message": None,
    }


ROWS = [
    _row(0, 0.5, width=32, prior="normal", normal_scale=0.1),
    _row(1, 0.2, width=64, prior="laplace", laplace_scale=0.2),
    _row(2, None, width=64, prior="laplace", laplace_scale=0.3),
    _row(3, 0.4, width=64, prior="laplace", laplace_scale=9.0),
]


def test_a_picture_shows_every_trial_and_what_was_varied(tmp_path):
    path = tmp_path / "search.png"
    figure = search.plot(ROWS, path, label="NLL", reference=("recipe", 0.3))
    progress, *panels = figure.axes
    lines = {line.get_label(): line for line in progress.lines}
    assert list(lines["trial"].get_xdata()) == [1, 2, 4]
    assert list(lines["best so far"].get_ydata()) == [0.5, 0.2, 0.2]
    assert list(lines["failed"].get_xdata()) == [3]
    assert list(lines["recipe"].get_ydata()) == [0.3, 0.3]
    titles = [panel.get_title() for panel in panels if panel.get_visible()]
    assert titles == ["width", "prior", "laplace_scale"]
    assert imread(path).std() > 0


def test_what_is_over_the_budget_is_no_score():
    over = {**_row(1, 1e9), "scores": {"feasible": 0.0}}
    progress, *_ = search.plot([_row(0, 2e4), over, _row(2, 1e4)]).axes
    lines = {line.get_label(): line for line in progress.lines}
    assert list(lines["trial"].get_ydata()) == [2e4, 1e4]
    assert list(lines["over budget"].get_xdata()) == [2]


@pytest.mark.parametrize("rows", [[], ROWS[2:3], ROWS[:1]])
def test_a_picture_of_nothing_to_compare_is_no_error(rows):
    figure = search.plot(rows)
    assert len([axes for axes in figure.axes if axes.get_visible()]) == 1
