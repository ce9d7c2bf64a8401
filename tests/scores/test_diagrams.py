"""The picture shows the numbers, and is saved whole or not at all."""

import sys

import numpy as np
import pytest

from tfbnn.scores import diagrams

# Predicted class 0, 0, 1, 0; right, wrong, right, right.
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
LABELS = np.array([0, 1, 1, 0])


def test_reliability_diagram_shows_the_numbers():
    figure = diagrams.reliability_diagram(PROBABILITIES, LABELS, num_bins=4)
    top, bottom = figure.axes
    assert "0.3500" in top.get_title()
    assert "4 examples" in top.get_title()
    figure = diagrams.reliability_diagram(PROBABILITIES, LABELS, num_bins=4, title="4 test rows")
    assert figure.axes[0].get_title() == "4 test rows\nECE 0.3500"
    assert [patch.get_height() for patch in bottom.patches] == [0, 0, 2, 2]


def test_reliability_diagram_of_weighted_labels():
    weights = [0.5, 0.0, 1.5, 2.0]
    figure = diagrams.reliability_diagram(PROBABILITIES, LABELS, num_bins=4, weights=weights)
    top, bottom = figure.axes
    assert "4 examples" in top.get_title()
    assert [patch.get_height() for patch in bottom.patches] == [0, 0, 3.5, 0.5]


def test_reliability_diagram_leaves_pyplot_alone():
    before = "matplotlib.pyplot" in sys.modules
    diagrams.reliability_diagram(PROBABILITIES, LABELS)
    assert ("matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a", b"\x89PNG")]
)
def test_reliability_diagram_is_saved(tmp_path, name, start):
    diagrams.reliability_diagram(PROBABILITIES, LABELS, path=tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_failed_save_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_text("old")

    def fail(self, target, **options):
        target.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        diagrams.reliability_diagram(PROBABILITIES, LABELS, path=path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
