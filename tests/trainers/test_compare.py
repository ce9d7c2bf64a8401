"""The comparison of routes: scores by hand, every route on a few rows, runs that are there."""

import dataclasses
import json

import numpy as np
import pytest
from matplotlib.image import imread

import tfbnn
from trainers import compare, runs
from trainers.comparison import measuring, networks, page, scores, tasks
from trainers.comparison.routes import ROUTES
from trainers.comparison.settings import BY_DATASET, CompareSettings
from trainers.settings import parse

# Two epochs are not meant to move sigma.
pytestmark = pytest.mark.filterwarnings("ignore:Sigma never left its start")


def moons(output, **changes):
    settings = dataclasses.replace(BY_DATASET["moons"], output=str(output), smoke=True, **changes)
    return settings.effective()


def test_the_area_under_the_roc_curve_counts_pairs():
    low, high = np.array([0.1, 0.2, 0.5]), np.array([0.2, 0.4, 0.7, 0.9])
    pairs = [(b > a) + 0.5 * (b == a) for a in low for b in high]
    assert scores.area_under_roc(low, high) == pytest.approx(np.mean(pairs))
    assert scores.area_under_roc(low, high[:0]) is None


def test_scores_are_those_of_the_posterior():
    task = tasks.load("moons", smoke=True)
    posterior = ROUTES["deterministic"](networks.builder(task), task, moons("."))
    found = scores.scores(posterior, task, 4)
    logits = posterior.model.predict(task.test[0], verbose=0)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    labels = task.test[1]
    assert found["error"] == pytest.approx((logits.argmax(axis=-1) != labels).mean())
    picked = probabilities[np.arange(len(labels)), labels]
    assert found["nll"] == pytest.approx(-np.log(picked).mean(), rel=1e-4)
    assert set(found["unseen"]) == {"far away"}


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_tasks(name, tmp_path, monkeypatch):
    monkeypatch.delenv("TFBNN_DATA", raising=False)
    task = tasks.load(name)
    for x, y in (task.train, task.validation, task.test):
        assert x.dtype == np.float32 and set(y) == set(range(task.num_classes))
    for unseen in task.unseen.values():
        assert unseen.shape[1:] == task.train[0].shape[1:] and unseen.dtype == np.float32
    assert "letters" not in task.unseen


def test_shuffled_images_have_the_pixels_of_the_test_rows():
    task = tasks.load("digits")
    one, other = (a.reshape(len(a), -1) for a in (task.test[0], task.unseen["shuffled"]))
    np.testing.assert_array_equal(np.sort(one), np.sort(other))
    assert not np.array_equal(one, other)


@pytest.mark.realdata
def test_letters_have_the_size_and_brightness_of_the_digits():
    letters = tasks.load("digits").unseen["letters"]
    assert letters.shape == (2000, 8, 8, 1)
    assert letters.min() >= 0 and 0.9 < letters.max() <= 1


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_is_measured(route, tmp_path):
    settings = moons(tmp_path)
    measuring.measured(settings, route, 0, tmp_path / "run")
    metrics = runs.read_json(tmp_path / "run" / runs.METRICS)
    assert metrics["settings"] == json.loads(json.dumps(dataclasses.asdict(settings)))
    for name in ("training_seconds", "prediction_seconds", "memory_bytes", "bytes"):
        assert metrics[name] > 0
    assert 0 < metrics["scores"]["nll"] < 10
    # What is measured is what is in the file.
    posterior = tfbnn.load_posterior(tmp_path / "run" / measuring.FILE)
    task = tasks.load("moons", smoke=True)
    again = scores.scores(posterior, task, settings.num_samples)
    assert again["nll"] == pytest.approx(metrics["scores"]["nll"], rel=1e-2)


def metrics_of(error, seconds, own=0.8):
    return {
        "scores": {
            **dict.fromkeys(("nll", "brier", "ece", "risk_coverage"), 0.1),
            "error": error,
            "own_errors": own,
            "unseen": {"letters": 0.9},
        },
        "training_seconds": seconds,
        "prediction_seconds": seconds / 10,
        "memory_bytes": 2e8,
        "bytes": 3000,
    }


def test_the_table():
    results = {
        "deterministic": [metrics_of(0.01, 2.0), metrics_of(0.03, 4.0, None)],
        "mean_field": [metrics_of(0.02, 6.0), metrics_of(0.02, 12.0)],
    }
    summary = page.summary(results)
    assert summary["deterministic"]["own_errors"] == [0.8, None]
    header, line, first, second = page.table(summary).splitlines()
    titles = [cell.strip() for cell in header.strip("|").split("|")]
    assert line.count("---") == len(titles)
    cells = dict(zip(titles, [c.strip() for c in first.strip("|").split("|")], strict=True))
    assert cells["route"] == "deterministic" and cells["error, %"] == "2.00 ± 1.00"
    assert cells["AUROC, letters"] == "0.900 ± 0.000" and cells["AUROC, own errors"] == "0.800"
    assert cells["training, CPU s"] == "3.0 ± 1.0 (1.0 x)"
    assert "mean field" in second and "9.0 ± 3.0 (3.0 x)" in second


def test_runs_that_are_there_are_not_run_again(tmp_path, monkeypatch, capsys):
    settings = moons(tmp_path, routes=("deterministic", "swag"), seeds=(0,))
    # The first in a process of its own, the rest here.
    compare.main(dataclasses.replace(settings, routes=("deterministic",)))
    done = []

    def here(settings, route, seed, folder):
        done.append((route, seed))
        measuring.measured(settings, route, seed, folder)

    monkeypatch.setattr(measuring, "measured_apart", here)
    summary = compare.main(settings)
    assert done == [("swag", 0)]
    folder = tmp_path / "moons-compare"
    assert json.loads((folder / "table.json").read_text()) == summary
    assert (folder / "table.md").read_text().count("\n") == 4
    for name in ("scores", "plane"):
        assert imread(folder / f"{name}.png").std() > 0
    assert "deterministic-0: there already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="run with other settings.*Received: batch_size=8, not 32"):
        compare.main(dataclasses.replace(settings, batch_size=8))
    # Those of other routes do not matter.
    other = dataclasses.replace(settings, ensemble_members=7, swag_learning_rate=0.5)
    compare.main(dataclasses.replace(other, routes=("deterministic",)))
    with pytest.raises(ValueError, match="Received: swag_learning_rate=0.5, not"):
        compare.main(other)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--routes", "magic"], "`routes` must be some of ('deterministic', "),
        (["--routes", "swag", "swag"], "`routes` must be one or more, all different"),
        (["--seeds", "1", "1"], "`seeds` must be one or more, all different"),
        (["--epochs", "3"], "`epochs` must be at least 4"),
        (["--mc-dropout-rate", "1"], "`mc_dropout_rate` must be between 0 and 1"),
        (["--dataset", "cats"], "argument --dataset: invalid choice: 'cats'"),
    ],
)
def test_bad_settings_are_errors(argv, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(BY_DATASET, argv=argv)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_smoke_run_is_small():
    assert CompareSettings(smoke=True).effective().epochs == 4
