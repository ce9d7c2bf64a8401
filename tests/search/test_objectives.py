import pathlib
import tempfile

import keras
import numpy as np
import pytest

import tfbnn
from tests.export import flat
from tests.quiet import QUIET
from tfbnn import search
from tfbnn.search import objectives

DRAWS = {"num_samples": 8, "seed": 0, "verbose": 0}


@pytest.fixture(scope="module")
def trained(small_search):
    keras.utils.set_random_seed(0)
    model = tfbnn.Sequential(
        [
            keras.Input((4,)),
            tfbnn.layers.DenseReparameterization(16, activation="relu", **QUIET),
            tfbnn.layers.DenseReparameterization(3, **QUIET),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss=loss)
    model.fit(*small_search.data(), epochs=20, verbose=0)
    return model


def test_the_nll_is_that_of_the_average_over_networks_and_repeats(trained, small_search):
    x, y = small_search.data()
    scores = search.MonteCarloNLL(num_samples=8)(trained, x, y)
    probabilities = tfbnn.predict(trained, x, num_samples=8, seed=0, verbose=0).prediction
    expected = -np.log(probabilities[np.arange(len(y)), y]).mean()
    assert scores["validation_nll"] == pytest.approx(expected, rel=1e-5)
    assert search.MonteCarloNLL(num_samples=8)(trained, x, y) == scores


def test_a_regression_is_scored_too():
    model = tfbnn.Sequential([keras.Input((2,)), tfbnn.layers.DenseReparameterization(1)])
    model.compile(loss=tfbnn.losses.NormalNLL(scale=1.0))
    scores = search.MonteCarloNLL(num_samples=4)(model, np.eye(2), np.zeros((2, 1)))
    assert sorted(scores) == ["validation_coverage", "validation_nll", "validation_rmse"]


def test_bytes_are_those_of_the_file_at_the_largest_sparsity_in_the_budget(
    trained, small_search, tmp_path
):
    x, y = small_search.data()
    sparsities = (0.0, 0.5, 0.9)
    rows = tfbnn.pruning_curve(trained, x, y, sparsities, **DRAWS).rows
    budget = rows[1]["error"]
    assert budget < rows[2]["error"]  # So that the budget decides.
    objective = search.Bytes(
        budget, sparsities, measure="bytes", num_samples=8, num_samples_in_file=2
    )
    scores = objective(trained, x, y)
    assert scores["sparsity"] == 0.5 and scores["feasible"] == 1.0
    assert scores["validation_error"] == pytest.approx(budget)
    pruned = tfbnn.prune(trained, sparsity=0.5)
    path = tmp_path / "model.tflite"
    flat.tflite(pruned, path, num_samples=2, check_data=x)
    assert scores["deployment_bytes"] == path.stat().st_size


def test_what_is_over_the_budget_is_worse_than_any_file_and_ordered(trained, small_search):
    x, y = small_search.data()
    wrong = (y + 1) % 3
    half = np.where(np.arange(len(y)) % 2, y, wrong)
    objective = search.Bytes(0.0, (0.0,), num_samples=8)
    far, near = (objective(trained, x, labels) for labels in (wrong, half))
    for scores in (far, near):
        assert scores["feasible"] == 0.0
        expected = 1e9 * (1 + scores["validation_error"])
        assert scores["deployment_bytes"] == pytest.approx(expected)
    assert 1e9 < near["deployment_bytes"] < far["deployment_bytes"] < np.inf


def test_nothing_stays_on_the_disk(trained, small_search, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []
    real = objectives.tflite
    monkeypatch.setattr(
        objectives, "tflite", lambda m, path, *a, **k: seen.append(path) or real(m, path, *a, **k)
    )
    search.Bytes(1.0, (0.0,), num_samples=2, num_samples_in_file=2)(trained, *small_search.data())
    assert pathlib.Path(seen[0]).is_relative_to(tmp_path)
    # What AutoGraph keeps until the process ends is TensorFlow's.
    left = [path.name for path in tmp_path.iterdir()]
    assert [name for name in left if not name.startswith("__autograph_generated_file")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "weight"}, r"`measure` must be one of \('bytes', 'gzip_bytes'\). Received"),
        (
            {"error_budget": -0.1},
            "`error_budget` must be .* at least 0.* Received: error_budget=-0.1",
        ),
    ],
)
def test_bad_arguments_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        search.Bytes(**{"error_budget": 0.1, **options})
