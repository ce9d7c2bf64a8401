"""`beta="validation"`: the candidate that predicts held-out rows best."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.quiet import QUIET
from tfbnn.training import beta_choice
from tfbnn.training.training_run import TrainingRun

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
HELD_OUT = (X[64:], Y[64:])


def make_model(beta="validation", recipe="calibrated", **options):
    keras.utils.set_random_seed(1)
    layers = [tfbnn.layers.DenseFlipout(2, seed=2, **options)]
    model = tfbnn.Sequential([keras.Input((3,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, recipe=recipe, beta=beta)
    return model


def fit(model, **options):
    options = {"validation_data": HELD_OUT, "epochs": 2, "verbose": 0, **options}
    return model.fit(X[:64], Y[:64], **options)


def test_the_best_of_the_candidates_is_taken_and_the_training_starts_anew(monkeypatch, capsys):
    scores = {0.03: 2.0, 0.1: 1.0, 0.3: 1.5, 1.0: float("nan")}
    weights, steps = [], []

    def score(model, validation_data, validation_steps):
        weights.append(model.get_weights()[0])
        steps.append(int(model.optimizer.iterations))
        return scores[model.objective.beta]

    monkeypatch.setattr(beta_choice, "held_out_nll", score)
    model = make_model()
    before = model.get_weights()
    history = fit(model, verbose=2)
    assert model.objective.beta == 0.1 and not model.objective.beta_is_open
    assert len(history.epoch) == 2
    # Each run, and the training proper, went over four batches from the same start.
    assert steps == [4] * 4 and int(model.optimizer.iterations) == 4
    assert all(not np.array_equal(before[0], after) for after in weights)
    printed = capsys.readouterr().out
    assert "beta = 0.1 by the NLL of held-out rows (0.03: 2.0000, 0.1: 1.0000" in printed
    # A second `fit` goes on with it.
    fit(model)
    assert len(steps) == 4


def test_the_weights_are_put_back():
    model = make_model()
    before = model.get_weights()
    run = TrainingRun(X[:64], Y[:64], validation_data=HELD_OUT)
    beta_choice.choose(model, run, None, 0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(model.optimizer.iterations) == 0
    assert model.objective.beta in beta_choice.BETAS


def test_a_choice_that_is_interrupted_leaves_nothing(monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(beta_choice, "held_out_nll", interrupt)
    model = make_model()
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        fit(model)
    assert model.objective.beta_is_open and model.objective.beta == 0.3
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_score_is_that_of_tfbnn_evaluate():
    model = make_model(0.1, **QUIET)
    fit(model)
    for kernel in (layer.kernel for layer in tfbnn.layers.variational_layers(model)):
        kernel.rho_variable.assign(np.full(kernel.shape, -30.0))
    expected = tfbnn.evaluate(model, *HELD_OUT, seed=0, verbose=0).nll
    batches = tf.data.Dataset.from_tensor_slices(HELD_OUT).batch(5)
    assert beta_choice.held_out_nll(model, HELD_OUT) == pytest.approx(expected, rel=1e-4)
    assert beta_choice.held_out_nll(model, batches) == pytest.approx(expected, rel=1e-4)


def test_the_score_averages_probabilities_over_networks():
    model = make_model(0.1, kernel_posterior=tfbnn.families.Normal(2.0))
    found = beta_choice.held_out_nll(model, HELD_OUT)
    scores = [
        tfbnn.evaluate(model, *HELD_OUT, seed=s, num_samples=32, verbose=0).nll for s in range(8)
    ]
    # Draws are independent of those here.
    assert abs(found - np.mean(scores)) < 4 * np.std(scores, ddof=1)


@pytest.mark.parametrize(
    ("options", "need"),
    [
        ({"validation_data": None}, "held-out rows"),
        ({"initial_epoch": 1}, "a training that begins"),
        ({"callbacks": "resume"}, "a training that begins"),
    ],
)
def test_what_it_needs(options, need, tmp_path):
    if "callbacks" in options:
        options = {"callbacks": [tfbnn.callbacks.ResumeTraining(str(tmp_path))]}
    with pytest.raises(ValueError, match=f"`beta='validation'` needs {need}"):
        fit(make_model(), **options)


def test_data_that_can_be_read_once_are_an_error():
    def batches():
        yield X[:32], Y[:32]

    with pytest.raises(ValueError, match="read several times"):
        make_model().fit(
            batches(), steps_per_epoch=1, num_examples=64, validation_data=HELD_OUT, verbose=0
        )


def test_it_contradicts_the_elbo_and_is_no_other_word():
    with pytest.raises(ValueError, match="recipe='elbo', beta='validation'"):
        make_model(recipe="elbo")
    with pytest.raises(ValueError, match="'validation' or a number"):
        make_model("held-out")


def test_a_file_keeps_that_it_is_open(tmp_path):
    model = make_model()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.objective.beta_is_open
    fit(loaded)
    assert not loaded.objective.beta_is_open
