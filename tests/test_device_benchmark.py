"""The device benchmark's arithmetic: means over seeds, and the front of its picture."""

import pathlib
import sys

import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from benchmarks.device_parts import tables

    yield tables
    for name in [n for n in sys.modules if n.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def result(tables, error, **more):
    return {**dict.fromkeys(tables._SCORES, 0.5), "error": error, "entropy": {"test": 0.1}, **more}


def test_means_over_seeds_and_the_error_above_each_seed_s_own_mean(tables):
    runs = [
        {"posterior mean": result(tables, e), "file": result(tables, e + d, bytes=n)}
        for e, d, n in ((0.01, 0.001, 100), (0.02, 0.003, 200))
    ]
    rows = tables.summary(runs, {"file": {"latency": 0.05}})
    assert [row["name"] for row in rows] == ["posterior mean", "file"]
    assert rows[1]["error"] == pytest.approx(0.017)
    assert rows[1]["excess"] == pytest.approx(0.2)
    assert rows[1]["excesses"] == pytest.approx([0.1, 0.3])
    assert rows[1]["bytes"] == 150 and rows[1]["latency"] == 0.05
    assert "+0.20" in tables.markdown(rows)


def test_the_teachers_are_those_that_their_module_describes(tables):
    from benchmarks.device_parts import teachers

    assert teachers.SETTINGS["mlp"].prior == teachers.SETTINGS["lenet"].prior == "scale_mixture"
    model = teachers.lenet(teachers.SETTINGS["lenet"])
    assert model.output_shape == (None, 10)
    assert np.max(model.layers[0].kernel.scale) < 0.01


def test_the_front_has_no_file_that_another_beats(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import plot_device

    class Panel:
        def step(self, x, y, **options):
            self.places = list(zip(x, y, strict=True))

    panel = Panel()
    plot_device._front(panel, [(3, 1.0), (1, 5.0), (2, 6.0), (4, 2.0)], lower=True)
    assert panel.places == [(1, 5.0), (3, 1.0)]
