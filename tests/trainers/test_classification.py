import csv
import dataclasses
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.image import imread

import tfbnn
from tfbnn.likelihoods.class_results import ClassEvaluation
from tfbnn.pruning import masks
from trainers import classification, command, report, runs, shipping
from trainers.data import load
from trainers.settings import BY_DATASET

KEYS = ["sparsity", "weights", "error", "nll", "ece", "bytes", "gzip_bytes", "latency_us"]

# Two epochs are not meant to move sigma.
pytestmark = pytest.mark.filterwarnings("ignore:Sigma never left its start")


def _settings(output, **changes):
    return dataclasses.replace(BY_DATASET["digits"], output=str(output), smoke=True, **changes)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """One real run: the settings, what `main` returned, and the folder."""
    output = tmp_path_factory.mktemp("saved_models")
    settings = _settings(output, name="run", json=str(output / "t.json"))
    keras.utils.clear_session(free_memory=False)
    return settings, classification.main(settings), output / "run"


def test_the_folder_holds_everything(smoke):
    _, metrics, folder = smoke
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert {path.name for path in folder.parent.iterdir()} == {"run", "t.json"}
    for name in ("pruning_curve", "reliability", "extremes", "sigma"):
        assert imread(folder / f"{name}.png").std() > 0
    with open(folder / "sigma.csv") as file:
        assert len(list(csv.DictReader(file))) > 0


def test_the_table_has_exactly_its_keys_and_true_numbers(smoke):
    settings, metrics, folder = smoke
    rows = json.loads(pathlib.Path(settings.json).read_text())
    assert rows == metrics["table"]
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert [row["sparsity"] for row in rows] == [0.0, 0.5]
    sizes = [9 * 4, 36 * 8, 32 * 16, 16 * 10]
    assert [row["weights"] for row in rows] == [sum(sizes), sum(sizes) - round(0.5 * sum(sizes))]
    for row, file in zip(rows, ("tflite/sparsity-0.tflite", "model.tflite"), strict=True):
        assert row["bytes"] == (folder / file).stat().st_size
        assert 0 < row["gzip_bytes"] < row["bytes"]
        assert row["latency_us"] > 0


def test_the_saved_models_score_as_the_table_says(smoke):
    _, metrics, folder = smoke
    dataset = load("digits", smoke=True)
    for name, row in zip(("model", "pruned"), metrics["table"], strict=True):
        model = tfbnn.load_model(folder / f"{name}.keras")
        assert masks.num_weights(model) == row["weights"]
        scores = tfbnn.evaluate(model, *dataset.test, num_samples=4, seed=0)
        assert scores.nll == pytest.approx(row["nll"], rel=1e-5)
        assert scores.error == row["error"]


def test_the_exported_files_run_and_know_their_preprocessing(smoke):
    _, metrics, folder = smoke
    x, labels = load("digits", smoke=True).test
    for name in ("model.tflite", "tflite/sparsity-0.tflite"):
        prediction, uncertainty = tfbnn.lite.Model(folder / name).predict(x)
        assert prediction.shape == (len(x), 10)
        assert uncertainty.shape == (len(x),)
        manifest = json.loads((folder / f"{name}.json").read_text())
        assert manifest["preprocessing"] == "pixels (0 to 16) / 16"
        assert manifest["class_names"] == list("0123456789")
    assert metrics["file"]["rows"] == len(labels)
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    answer = loaded.signatures["predict_with_uncertainty"](inputs=tf.constant(x[:3]))
    np.testing.assert_allclose(answer["prediction"].numpy().sum(axis=1), 1, rtol=1e-4)
    assert (folder / "saved_model.json").exists()


def test_a_largest_scale_is_that_of_every_kernel(tmp_path):
    settings = _settings(tmp_path, largest_scale=0.25).effective()
    model = classification.networks.build(settings, load("digits", smoke=True))
    kernels = [layer.kernel for layer in tfbnn.layers.variational_layers(model)]
    assert {kernel.prior.largest_scale for kernel in kernels} == {0.25}


@pytest.mark.parametrize(("train_on_all", "part"), [(False, "validation"), (True, "test")])
def test_the_pruning_curve_is_of_rows_that_were_not_trained_on(
    train_on_all, part, tmp_path, monkeypatch
):
    drawn = {}
    monkeypatch.setattr(classification, "_table", lambda *args: [])
    monkeypatch.setattr(
        classification.PruningCurve, "plot", lambda self, path, title: drawn.update({path: title})
    )
    dataset = load("digits", train_on_all=train_on_all, smoke=True)
    settings = _settings(tmp_path, export=False, train_on_all=train_on_all)
    # What is scored is what was not trained on, whatever the model.
    model = classification.networks.build(settings.effective(), dataset)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    monkeypatch.setattr(classification, "_trained", lambda *args: (model, {}))
    metrics = classification._run(settings.effective(), dataset, None, tmp_path)
    assert drawn == {tmp_path / "pruning_curve.png": f"64 {part} rows"}
    assert metrics["pruning_curve"]["part"] == part
    scores = tfbnn.evaluate(model, *getattr(dataset, part), num_samples=4, seed=0)
    assert metrics["pruning_curve"]["points"][0]["nll"] == pytest.approx(scores.nll, rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_extremes_are_drawn_in_grey_and_in_colour(channels, tmp_path):
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    labels = np.array([0, 0, 1])
    evaluation = ClassEvaluation(
        *[0.0] * 5,
        num_samples=1,
        probabilities=probabilities,
        labels=labels,
        weights=np.ones(3),
        num_rows=3,
    )
    images = np.zeros((3, 4, 4, channels), np.float32)
    images[:, :, 2:, 0] = 1.0
    path = tmp_path / "extremes.png"
    report.draw_extremes(evaluation, images, ["a", "b"], path, "3 test rows")
    picture = imread(path)[..., :3]
    # Full in the one channel is black, and in the first of three red.
    expected = [0, 0, 0] if channels == 1 else [1, 0, 0]
    assert np.mean(np.all(picture == expected, axis=-1)) > 0.15


def test_everything_is_printed(smoke, tmp_path, capsys):
    settings, metrics, _ = smoke
    classification._print(metrics, pathlib.Path(settings.output) / "run")
    text = capsys.readouterr().out
    for title in ("sparsity", "weights left", "error", "NLL", "ECE", "bytes", "gzipped", "latency"):
        assert text.count(title) >= 1
    assert f"{metrics['table'][0]['bytes']:,}" in text
    assert f"Everything is in {settings.output}/run" in text
    assert "model.tflite" in text


@pytest.fixture(scope="module")
def nameless(tmp_path_factory):
    """Two more runs without names and files; the second one is fine-tuned."""
    output = tmp_path_factory.mktemp("nameless")
    settings = [_settings(output, export=False, fine_tune_epochs=epochs) for epochs in (0, 1)]
    return output, [classification.main(one) for one in settings]


def test_the_same_seed_gives_the_same_run_and_names_differ(smoke, nameless):
    _, first, _ = smoke
    output, (second, tuned) = nameless
    assert len(list(output.iterdir())) == 2
    # What was not pruned was not fine-tuned.
    rows = [*second["table"], tuned["table"][0]]
    for row, other in zip(rows, [*first["table"], first["table"][0]], strict=True):
        assert row["nll"] == pytest.approx(other["nll"], rel=1e-5)
        assert row["bytes"] is row["gzip_bytes"] is row["latency_us"] is None


def test_a_run_that_exists_is_one_clear_line(smoke, monkeypatch, capsys):
    settings, _, folder = smoke
    monkeypatch.setattr(classification.networks, "train", lambda *a, **k: pytest.fail("trained"))
    before = (folder / "metrics.json").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        command.run(
            classification.main,
            BY_DATASET,
            argv=["--smoke", "--name", "run", "--output", settings.output],
        )
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {folder} exists and a run is never overwritten")
    assert (folder / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("flag", ["--output", "--json"])
def test_a_place_that_cannot_be_written_is_found_before_training(
    flag, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(classification.networks, "train", lambda *a, **k: pytest.fail("trained"))
    (tmp_path / "file").write_text("")
    argv = ["--smoke", "--output", str(tmp_path / "out"), flag, str(tmp_path / "file" / "x")]
    with pytest.raises(SystemExit) as stopped:
        command.run(classification.main, BY_DATASET, argv=argv)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: Cannot write")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_export_keeps_the_model_and_says_where(smoke, tmp_path, monkeypatch, capsys):
    def disagree(*args, **kwargs):
        raise RuntimeError("the file disagrees\nwith Keras")

    trained = tfbnn.load_model(smoke[2] / "model.keras")
    monkeypatch.setattr(classification, "_trained", lambda *args: (trained, {}))
    monkeypatch.setattr(shipping.tfbnn.export, "tflite", disagree)
    with pytest.raises(SystemExit):
        command.run(classification.main, BY_DATASET, argv=["--smoke", "--output", str(tmp_path)])
    (folder,) = tmp_path.iterdir()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"error: the file disagrees with Keras. What was written so far is in {folder}"
    assert (folder / "model.keras").exists()
    assert not (folder / runs.METRICS).exists()


def test_fine_tuning_keeps_the_weights_pruned(nameless):
    output, (_, metrics) = nameless
    written = {path.parent: json.loads(path.read_text()) for path in output.glob("*/metrics.json")}
    (folder,) = [f for f, one in written.items() if one["settings"]["fine_tune_epochs"]]
    pruned = tfbnn.load_model(folder / "pruned.keras")
    assert masks.num_weights(pruned) == metrics["table"][1]["weights"]
    plain = tfbnn.load_model(folder / "model.keras")
    kernels = [
        np.concatenate([kernel.loc.numpy().ravel() for kernel in masks.prunable_weights(model)])
        for model in (plain, pruned)
    ]
    kept = kernels[1] != 0
    assert kept.any()
    assert not np.allclose(kernels[0][kept], kernels[1][kept], atol=1e-7)
