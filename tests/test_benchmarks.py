"""The benchmarks' machinery: a contender in its process, and the arithmetic of the ratios."""

import importlib
import pathlib
import runpy
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def measuring(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import measuring

    return measuring


def _case(**more):
    return {"network": "mlp", "width": 8, "batch": 4, "jit": "default", **more}


@pytest.mark.parametrize(
    "case",
    [
        {"contender": "ours", "estimator": "flipout", "prior": "mixture"},
        {"contender": "tfp_layers", "estimator": "flipout", "prior": "mixture", "jit": "off"},
    ],
    ids=lambda case: "-".join(map(str, case.values())),
)
def test_a_contender_answers(measuring, case):
    worker = measuring.Worker(_case(**case))
    try:
        assert worker.first["first_seconds"] > 0
        times = worker.ask("run 3")
        assert len(times) == 3 and all(time > 0 for time in times)
        memory = worker.ask("memory")
        assert memory is None or memory > 0
        if case["contender"] == "ours":
            assert worker.ask("describe")["traces"] == 1  # before a `fit`, whose batches may vary
            assert worker.ask("fit 2") > 0
    finally:
        worker.close()


# Those that need no process of their own to be imported are asked here, which takes less long.
@pytest.mark.parametrize(
    "case",
    [
        {"contender": "deterministic", "update": "fast"},
        {"contender": "bound", "estimator": "local", "prior": "mixture"},
        {"contender": "ours", "estimator": "local", "prior": "normal", "network": "lenet"},
    ],
    ids=lambda case: "-".join(map(str, case.values())),
)
def test_a_contender_works(measuring, case):
    contender, worker = _here(_case(**case))
    times = worker._times(contender, "step", None, 3)
    assert len(times) == 3 and all(time > 0 for time in times)
    traces = contender.describe()["traces"]
    if case["contender"] == "ours":
        assert traces == 1  # before a `fit`, whose batches may vary
        assert worker._fit_time(contender, 2) > 0


def test_predictions_are_measured(measuring):
    case = {"contender": "ours", "estimator": "reparameterization", "prior": "normal"}
    case = _case(**case, task="predict", rows=10, num_samples=2)
    contender, worker = _here(case)
    assert len(worker._times(contender, "predict", worker._rows(case), 2)) == 2


def _here(case):
    """A contender in this process, and the module with which a process asks it."""
    import worker

    return importlib.import_module(f"contenders.{case['contender']}").Contender(case), worker


def test_a_contender_that_cannot_run_is_left_out_with_a_message(measuring, capsys):
    assert measuring.start([_case(contender="nobody")], {}) == []
    assert "skipped" in capsys.readouterr().out


def test_ratios_are_taken_within_a_turn(measuring):
    class Fake:
        def __init__(self, times):
            self.times = times

        median = measuring.Worker.median

    slow = Fake([[2.0, 2.0, 9.0], [20.0, 20.0], [6.0]])
    base = Fake([[1.0, 1.0, 1.0], [10.0, 10.0], [2.0]])
    assert measuring.ratio(slow, base) == 2.0
    assert measuring.fastest([slow, base]) is base


@pytest.mark.parametrize("name", ["train_step", "predict", "export_size"])
def test_help(name, measuring, monkeypatch, capsys):
    path = BENCHMARKS / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    assert not stopped.value.code
    assert "--json" in capsys.readouterr().out
