import dataclasses
import json
import shutil

import keras
import pytest
from matplotlib.image import imread

import tfbnn
from trainers import command, report, search
from trainers.data import load
from trainers.search_settings import SEARCHES

SMOKE = dataclasses.replace(SEARCHES["digits"], smoke=True)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """One real run: the settings, what `main` returned, and the folder."""
    output = tmp_path_factory.mktemp("saved_models")
    settings = dataclasses.replace(SMOKE, output=str(output), name="run")
    keras.utils.clear_session(free_memory=False)
    return settings, search.main(settings), output / "run"


def test_the_folder_holds_everything(smoke):
    _, found, folder = smoke
    assert json.loads((folder / "search.json").read_text()) == json.loads(json.dumps(found))
    assert {path.name for path in folder.iterdir()} == {
        *("model.keras", "model.tflite", "model.tflite.json", "search.json", "search.png"),
        *("settings.json", "trials"),
    }
    assert imread(folder / "search.png").std() > 0
    assert [row["status"] for row in found["trials"]] == ["COMPLETED"] * 2
    assert found["default_recipe"]["rows"] == found["validation"]["rows"] == 64
    assert found["file"]["bytes"] == (folder / "model.tflite").stat().st_size


def test_the_best_trial_is_the_saved_model_and_its_scores_are_of_the_right_rows(smoke):
    _, found, folder = smoke
    best = min(found["trials"], key=lambda row: row["score"])
    assert found["best"] == best["trial"]
    dataset = load("digits", smoke=True)
    model = tfbnn.load_model(folder / "model.keras")
    for part in ("validation", "test"):
        scores = tfbnn.evaluate(model, *getattr(dataset, part), num_samples=4, seed=0)
        assert scores.nll == pytest.approx(found[part]["nll"], rel=1e-5)
    assert found["validation"]["nll"] == pytest.approx(best["score"], rel=1e-5)
    prediction, uncertainty = tfbnn.lite.Model(folder / "model.tflite").predict(dataset.test[0])
    assert prediction.shape == (64, 10) and uncertainty.shape == (64,)


def test_a_second_start_prints_the_same_and_trains_nothing(smoke, monkeypatch, capsys):
    settings, found, folder = smoke
    monkeypatch.setattr(search, "load", lambda *a, **k: pytest.fail("loaded data"))
    assert search.main(settings) == json.loads(json.dumps(found))
    text = capsys.readouterr().out
    assert f"{folder}: there already" in text
    assert "Default recipe, on the same 64 validation rows: error" in text
    assert "On untouched 64 test rows: error" in text


def test_other_settings_are_one_clear_line(smoke, capsys):
    settings, _, _ = smoke
    argv = ["--smoke", "--name", "run", "--output", settings.output, "--batch-size", "32"]
    with pytest.raises(SystemExit) as stopped:
        command.run(search.main, SEARCHES, argv=argv)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "was run with other settings; choose another --name" in line
    assert line.endswith("Received: batch_size=32, not 64")


def test_after_an_interruption_finished_trials_are_not_run_again(smoke, tmp_path, monkeypatch):
    settings, found, folder = smoke
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "search.json").unlink()
    monkeypatch.setattr(search.search.BayesianHyperModel, "fit", lambda *a: pytest.fail("trained"))
    monkeypatch.setattr(search, "_baseline", lambda *a: found["default_recipe"])
    again = search.main(dataclasses.replace(settings, output=str(tmp_path)))
    assert again["trials"] == found["trials"]
    assert again["test"] == pytest.approx(found["test"], rel=1e-5)


def test_a_damaged_search_is_one_clear_line(tmp_path, capsys):
    trials = tmp_path / "run" / "trials"
    trials.mkdir(parents=True)
    (trials / "oracle.json").write_text("{")
    argv = ["--smoke", "--name", "run", "--output", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        command.run(search.main, SEARCHES, argv=argv)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {trials}/oracle.json is damaged: choose")


# Of the Gaussian process, on a few points.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_deployment_and_bayesian_search(tmp_path):
    settings = dataclasses.replace(
        SMOKE, output=str(tmp_path), tuner="bayesian", objective="bytes", baseline=False
    )
    found = search.main(settings)
    best = next(row for row in found["trials"] if row["trial"] == found["best"])
    assert best["scores"]["feasible"] == 1.0
    # The model that ships is the pruned one that was measured.
    assert found["file"]["gzip_bytes"] == pytest.approx(best["score"], rel=0.02)
    model = tfbnn.load_model(tmp_path / "digits-search" / "model.keras")
    removed = tfbnn.pruning.masks.sparsity_of(model)
    assert removed == pytest.approx(best["scores"]["sparsity"], abs=0.01)


def test_that_nothing_was_within_the_budget_is_said(smoke, tmp_path, capsys):
    _, found, _ = smoke
    rows = [{**row, "scores": {**row["scores"], "feasible": 0.0}} for row in found["trials"]]
    search._print({**found, "trials": rows}, tmp_path)
    assert "No trial was within the error budget" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--trials", "0"], "`trials` must be at least 1. Received: trials=0"),
        (["--recipes", "sparce"], "`recipes` must be some of ['calibrated', 'elbo', 'sparse']"),
        (["--error-budget", "3"], "`error_budget` must be in [0, 1]"),
        (["--tuner", "grid"], "argument --tuner: invalid choice: 'grid'"),
    ],
)
def test_bad_flags_are_errors(argv, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.run(search.main, SEARCHES, argv=argv)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_table_leaves_out_what_never_changes_and_says_why_a_trial_failed():
    rows = [
        {
            "trial": str(number),
            "status": status,
            "score": score,
            "hyperparameters": {"prior": "normal", "normal_scale": 0.25 * number, "width": 8},
            "scores": {} if score is None else {"validation_nll": score, "seconds": 2.0},
            "message": message,
        }
        for number, status, score, message in [
            (1, "COMPLETED", 0.5, None),
            (2, "FAILED", None, "The loss is nan"),
        ]
    ]
    header, _, first, second, reason = report.trials_table(rows, "1").splitlines()
    assert header.split() == ["trial", "status", "NLL", "seconds", "prior"]
    assert first.split() == ["*", "1", "completed", "0.5000", "2", "normal", "0.25"]
    assert second.split() == ["2", "failed", "-", "-", "normal", "0.5"]
    assert reason == "trial 2: The loss is nan"


def test_the_table_shows_no_penalty_as_bytes():
    rows = [
        {
            "trial": str(number),
            "status": "COMPLETED",
            "score": size,
            "hyperparameters": {"prior": "normal", "width": number},
            "scores": {"deployment_bytes": size, "feasible": float(size < 1e6), "sparsity": 0.5},
            "message": None,
        }
        for number, size in [(1, 37944.0), (2, 1.08e7)]
    ]
    header, _, first, second = report.trials_table(rows, "1").splitlines()
    assert header.split() == ["trial", "status", "gzipped", "sparsity", "width"]
    assert first.split() == ["*", "1", "completed", "37,944", "50", "%", "1"]
    assert second.split() == ["2", "completed", "over", "budget", "50", "%", "2"]
