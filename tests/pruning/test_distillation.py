"""Distillation: the student comes to answer as the teacher does, and what it must not touch."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.layers.variational import variational_weights
from tfbnn.pruning import masks

LAYERS = tfbnn.layers
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(units, loss=LOGITS, outputs=3, scale=0.3, seed=0):
    keras.utils.set_random_seed(seed)
    family = tfbnn.families.Normal(scale)
    layers = [LAYERS.DenseFlipout(n, activation="relu", kernel_posterior=family) for n in units]
    layers.append(LAYERS.DenseFlipout(outputs, kernel_posterior=family))
    model = tfbnn.Sequential([keras.Input((4,)), *layers])
    model.compile(loss=loss)
    return model


def rows(count=256):
    return np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)


def distance(model, x, answers):
    """Mean differences of probabilities, and of mutual information, over many draws."""
    own = tfbnn.predict(model, x, num_samples=300, seed=1, verbose=0)
    pairs = (
        (own.prediction, answers.prediction),
        (own.mutual_information, answers.mutual_information),
    )
    return [float(np.abs(a - b).mean()) for a, b in pairs]


@pytest.fixture(scope="module")
def answers():
    return tfbnn.predict(network([32]), rows(), num_samples=300, seed=0, verbose=0)


def test_a_student_learns_prediction_and_uncertainty(answers):
    student = network([8], seed=1, scale=0.05)
    before = distance(student, rows(), answers)
    history = tfbnn.distill(
        student, rows(), answers, batch_size=32, epochs=60, learning_rate=1e-2, verbose=0
    )
    after = distance(student, rows(), answers)
    # A fresh student has no idea of either; a quarter of the distance is left at most.
    assert after[0] < before[0] / 4 and after[1] < before[1] / 2
    assert history.history["cross_entropy"][-1] < history.history["cross_entropy"][0]
    assert history.history["epistemic"][-1] < history.history["epistemic"][0]


def test_masked_steps_teach_nothing():
    def student():
        model = tfbnn.Sequential(
            [keras.Input((None, 4)), keras.layers.Masking(), LAYERS.DenseFlipout(3)]
        )
        model.compile(loss=LOGITS)
        return model

    keras.utils.set_random_seed(2)
    teacher, one = student(), student()
    other = tfbnn.clone_model(one)
    other.compile(loss=LOGITS)
    other.set_weights(one.get_weights())
    x = rows(24).reshape(8, 3, 4)
    padded = np.pad(x, [(0, 0), (0, 2), (0, 0)])
    histories = []
    for model, inputs in ((one, x), (other, padded)):
        said = tfbnn.predict(teacher, inputs, num_samples=4, seed=0, verbose=0)
        options = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1, "verbose": 0}
        histories.append(tfbnn.distill(model, inputs, said, "none", **options).history)
    assert histories[0]["cross_entropy"] == pytest.approx(histories[1]["cross_entropy"], rel=1e-5)
    for first, second in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_without_uncertainty_it_leaves_standard_deviations_alone(answers):
    student = network([8], seed=1)
    weights = variational_weights(student)
    scales = [weight.scale.numpy() for weight in weights]
    history = tfbnn.distill(student, rows(), answers, "none", epochs=20, verbose=0)
    for weight, scale in zip(weights, scales, strict=True):
        np.testing.assert_array_equal(weight.scale.numpy(), scale)
    assert list(history.history) == ["cross_entropy"]
    assert history.history["cross_entropy"][-1] < history.history["cross_entropy"][0]


@pytest.mark.parametrize("uncertainty", ["moments", "none"])
def test_pruned_weights_stay_pruned(uncertainty, answers):
    student = tfbnn.prune(network([16], seed=1), sparsity=0.6)
    kept = [layer.kernel.mask.numpy() for layer in student.layers]
    tfbnn.distill(student, rows(), answers, uncertainty, epochs=2, verbose=0)
    assert masks.sparsity_of(student) == pytest.approx(0.6, abs=0.01)
    for layer, mask in zip(student.layers, kept, strict=True):
        assert not layer.kernel.loc.numpy()[mask == 0].any()
        assert not layer.kernel.scale.numpy()[mask == 0].any()


@pytest.mark.parametrize("scale", [0.3, "learned", "head"])
def test_real_numbers(scale):
    outputs = 2 if scale == "head" else 1
    loss = tfbnn.losses.NormalNLL(scale=scale)
    teacher = network([32], loss, outputs)
    x = rows()
    targets = tfbnn.predict(teacher, x, num_samples=300, seed=0, verbose=0)
    student = network([8], loss, outputs, scale=0.05, seed=1)

    def error(name):
        own = getattr(tfbnn.predict(student, x, num_samples=300, seed=1, verbose=0), name)
        return float(np.abs(own - getattr(targets, name)).mean())

    names = ("prediction", "epistemic")
    before = [error(name) for name in names]
    tfbnn.distill(student, x, targets, batch_size=32, epochs=60, learning_rate=1e-2, verbose=0)
    after = [error(name) for name in names]
    assert all(a < b / 2 for a, b in zip(after, before, strict=True)), (before, after)


def test_binary_answers():
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    x = rows()
    answers = tfbnn.predict(network([16], loss, 1), x, num_samples=300, seed=0)
    student = network([8], loss, 1, scale=0.05, seed=1)
    options = {"batch_size": 64, "epochs": 30, "learning_rate": 1e-2, "verbose": 0}
    history = tfbnn.distill(student, x, answers, **options)
    own = tfbnn.predict(student, x, num_samples=300, seed=1)
    assert np.abs(own.prediction - answers.prediction).mean() < 0.05
    # The cross-entropy cannot fall below the entropy of the answers.
    assert history.history["cross_entropy"][-1] > 0.99 * answers.uncertainty.mean()


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"answers": np.ones((256, 3))}, TypeError, "what `tfbnn.predict.*type ndarray"),
        ({"x": rows(5)}, ValueError, "of the same rows.*256 ClassPredictions for 5 rows"),
        ({"uncertainty": "draws"}, ValueError, "`uncertainty` must be one of.*='draws'"),
        ({"epochs": 0}, ValueError, "`epochs` must be a whole number.*epochs=0"),
        ({"learning_rate": -1.0}, ValueError, "`learning_rate` must be a positive"),
        ({"x": np.full((256, 4), np.nan)}, ValueError, "`x` has NaN"),
        ({"model": network([4], tfbnn.losses.NormalNLL())}, ValueError, "kind 'normal'"),
    ],
)
def test_bad_arguments(changed, error, message, answers):
    arguments = {"model": network([4]), "x": rows(), "answers": answers, "verbose": 0} | changed
    with pytest.raises(error, match=message):
        tfbnn.distill(**arguments)


def test_a_layer_without_moments_is_named(answers):
    model = tfbnn.Sequential(
        [keras.Input((4,)), keras.layers.UnitNormalization(name="norm"), LAYERS.DenseFlipout(3)]
    )
    model.compile(loss=LOGITS)
    with pytest.raises(ValueError, match="'norm'"):
        tfbnn.distill(model, rows(), answers, verbose=0)
    tfbnn.distill(model, rows(), answers, "none", epochs=1, verbose=0)
