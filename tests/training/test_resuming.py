"""Resuming in one process: the same end, whatever the data, and no damage done to anybody."""

import functools
import io
import pathlib
import pickle
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.training.order import shuffled_batches

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3)).astype("float32")
Y = RNG.integers(0, 2, 23)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Interrupt(keras.callbacks.Callback):
    """Raises after so many steps."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise InterruptedError


def _model(**options):
    keras.utils.set_random_seed(1)
    model = tfbnn.Sequential(
        [keras.Input((3,)), tfbnn.layers.DenseFlipout(2, seed=3, bias_posterior="normal")]
    )
    model.compile(keras.optimizers.Adam(0.05), loss=LOSS, metrics=["accuracy"], **options)
    model.optimizer.build(model.trainable_variables)
    return model


@functools.cache
def _traced(**options):
    """One model for all tests, because tracing takes longer than training, and how it began."""
    model = _model(**options)
    return model, [np.array(variable) for variable in _states(model)]


def _states(model):
    """All that training changes, random states included."""
    return [*model.variables, *model.optimizer.variables]


def _new(**options):
    """A model that has not been trained."""
    model, start = _traced(**options)
    for variable, value in zip(_states(model), start, strict=True):
        variable.assign(value)
    return model


def _other(**options):
    """The same with another number in every variable, as if another process had made it."""
    model = _new(**options)
    for variable in _states(model):
        variable.assign(variable + keras.ops.ones_like(variable))
    return model


def _fits(folder, step, data=(X, Y), new=_new, other=_other, **options):
    """Weights and last logs of a whole `fit`, and of one interrupted after `step` steps."""
    options = {"epochs": 3, "verbose": 0, **options}
    model = new()
    resume = tfbnn.callbacks.ResumeTraining(folder / "whole", every=2)
    expected = model.fit(*data, callbacks=[resume], **options).history
    weights = model.get_weights()
    resume = tfbnn.callbacks.ResumeTraining(folder / "broken", every=2)
    with pytest.raises(InterruptedError):
        new().fit(*data, callbacks=[resume, Interrupt(step)], **options)
    again = other()
    resume = tfbnn.callbacks.ResumeTraining(folder / "broken", every=2)
    found = again.fit(*data, callbacks=[resume], **options).history
    for weight, expected_weight in zip(again.get_weights(), weights, strict=True):
        np.testing.assert_allclose(weight, expected_weight, rtol=1e-6, atol=1e-8)
    for name, values in expected.items():
        assert found[name][-1] == pytest.approx(values[-1], rel=1e-5), name


@pytest.mark.parametrize("step", [4, 6, 12])
def test_in_an_epoch_at_its_end_and_at_the_end_of_the_last(tmp_path, step):
    _fits(tmp_path, step, batch_size=7)


def test_models_that_have_nothing_in_common(tmp_path):
    def other():
        # Another process would start from here, with other numbers in its random states.
        keras.utils.clear_session()
        return _model()

    _fits(tmp_path, step=6, new=_model, other=other, batch_size=7)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 7, "shuffle": False, "validation_split": 0.2},
        {"batch_size": 5, "sample_weight": np.linspace(0.5, 1.5, 23)},
        {"batch_size": 7, "class_weight": {0: 1.0, 1: 2.0}},
        {"batch_size": 7, "initial_epoch": 1},
    ],
    ids=lambda options: "-".join(options),
)
def test_an_interrupted_fit_ends_as_a_whole_one(tmp_path, options):
    _fits(tmp_path, step=6, **options)


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("step", [4, 6])
def test_a_data_set_is_read_up_to_the_batch(tmp_path, endless, step):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(7)
    if endless:
        options = {"steps_per_epoch": 3, "num_examples": 23}
        _fits(tmp_path, step, data=(data.repeat(),), **options)
    else:
        _fits(tmp_path, step, data=(data,))


def test_arrays_with_steps_per_epoch(tmp_path):
    _fits(tmp_path, step=5, batch_size=7, steps_per_epoch=3, num_examples=23)


def test_a_shuffling_py_dataset_is_refused(tmp_path):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X[:8], Y[:8]

    resume = tfbnn.callbacks.ResumeTraining(tmp_path)
    options = {"num_examples": 16, "verbose": 0, "callbacks": [resume]}
    with pytest.raises(ValueError, match="shuffle=False"):
        _new().fit(Batches(), **options)
    _new().fit(Batches(), shuffle=False, **options)


def test_a_state_of_other_batches_or_data_is_refused(tmp_path):
    resume = tfbnn.callbacks.ResumeTraining(tmp_path, keep=True)
    model = _new()
    model.fit(X, Y, batch_size=7, verbose=0, callbacks=[resume])
    for data, batch_size in (((X, Y), 12), ((X[:21], Y[:21]), 7)):
        with pytest.raises(ValueError, match="a run on other data"):
            _new().fit(*data, batch_size=batch_size, verbose=0, callbacks=[resume])
    # What an error has left behind is gone in the next `fit`.
    assert len(model.fit(X, Y, epochs=2, verbose=0).history["loss"]) == 2


def test_gradients_of_several_batches():
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    warm_up = tfbnn.schedules.LinearWarmUp(epochs=2)
    model.compile(optimizer, loss=LOSS, kl_schedule=warm_up)
    weights = model.fit(X, Y, batch_size=6, epochs=3, verbose=0).history["kl_weight"]
    assert weights[0] < weights[1] < weights[2] == pytest.approx(1 / 23)


def test_steps_per_execution(tmp_path):
    model = _new(steps_per_execution=2)
    resume = tfbnn.callbacks.ResumeTraining(tmp_path, every=2)
    with pytest.raises(InterruptedError):
        model.fit(X, Y, batch_size=7, verbose=0, epochs=2, callbacks=[resume, Interrupt(1)])
    assert resume.position() == (0, 2)
    again = _other(steps_per_execution=2)
    again.fit(X, Y, batch_size=7, verbose=0, epochs=2, callbacks=[resume])
    weights = again.get_weights()
    whole = _new(steps_per_execution=2)
    other = tfbnn.callbacks.ResumeTraining(tmp_path / "whole")
    whole.fit(X, Y, batch_size=7, verbose=0, epochs=2, callbacks=[other])
    for weight, expected in zip(weights, whole.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6, atol=1e-8)


def test_the_state_is_removed_at_the_end_or_kept(tmp_path):
    _new().fit(X, Y, verbose=0, callbacks=[tfbnn.callbacks.ResumeTraining(tmp_path)])
    assert not list(tmp_path.iterdir())
    model, resume = _new(), tfbnn.callbacks.ResumeTraining(tmp_path, keep=True)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[resume])
    assert resume.position() == (2, 0)
    # Also asked by a program that has not begun yet.
    assert tfbnn.callbacks.ResumeTraining(tmp_path).position() == (2, 0)
    # Nothing is left to do, and the next `fit` without the callback starts at its own first epoch.
    assert len(model.fit(X, Y, verbose=0).history["loss"]) == 1


def test_a_state_of_another_model_is_refused(tmp_path):
    resume = tfbnn.callbacks.ResumeTraining(tmp_path, keep=True)
    _new().fit(X, Y, verbose=0, callbacks=[resume])
    other = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(3)])
    other.compile("adam", loss=LOSS)
    with pytest.raises(ValueError, match="another model or optimizer"):
        other.fit(X, Y, verbose=0, callbacks=[resume])


def _npz(**changes):
    """The bytes of a state with other arrays, or without those that are None."""
    arrays = {"run": np.array([23, 1, 0]), "position": np.array([1, 0]), **changes}
    file = io.BytesIO()
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    return file.getvalue()


def _zip(compression=zipfile.ZIP_STORED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def _npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


class _Opened:
    """Says so when somebody unpickles it."""

    def __reduce__(self):
        return pathlib.Path.write_text, (pathlib.Path("opened"), "")


_HEADER = _npy(np.zeros(3))
DAMAGED = {
    "empty": b"",
    "text": b"not a state",
    "an array": _npy(np.zeros(3)),
    "half": _npz()[:300],
    "one bit": _npz().replace(b"descr", b"eescr", 1),
    "no position": _npz(position=None),
    "no run": _npz(run=None),
    "a member that is no array": _zip(
        run=_npy(np.array([23, 1, 0])), position=_npy(np.array([1, 0])), more=b"nothing"
    ),
    "position of three": _npz(position=np.zeros(3)),
    "position of words": _npz(position=np.array(["a", "b"])),
    "run of one number": _npz(run=np.array(3)),
    "no arrays": _zip(run=b"", position=b""),
    "larger than any memory": _zip(run=_HEADER.replace(b"(3,)", b"(%d,)" % 10**15)),
    "a bomb": _zip(zipfile.ZIP_DEFLATED, run=_npy(np.zeros(10**6, np.int8))),
    "a pickle": pickle.dumps(_Opened()),
    "arrays of objects": _npz(position=np.array([_Opened(), 0], object)),
    "a pickle inside": _zip(run=pickle.dumps(_Opened())),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_state_is_refused_and_stays(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    resume = tfbnn.callbacks.ResumeTraining(tmp_path, keep=True)
    resume.path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged: .*training.npz"):
        resume.position()
    assert resume.path.read_bytes() == content
    # No code in it has run.
    assert list(tmp_path.iterdir()) == [resume.path]


def test_fit_refuses_a_damaged_state(tmp_path):
    resume = tfbnn.callbacks.ResumeTraining(tmp_path, keep=True)
    _new().fit(X, Y, verbose=0, callbacks=[resume])
    half = resume.path.read_bytes()[:500]
    resume.path.write_bytes(half)
    with pytest.raises(ValueError, match=r"damaged: .*training.npz"):
        _new().fit(X, Y, verbose=0, callbacks=[resume])
    assert resume.path.read_bytes() == half


@pytest.mark.parametrize("name", ["variable_00000", "metric_00000"])
@pytest.mark.parametrize("change", [lambda a: a.astype(str), lambda a: a.reshape(1, *a.shape)])
def test_arrays_of_another_kind_are_refused(tmp_path, name, change):
    resume = tfbnn.callbacks.ResumeTraining(tmp_path, keep=True)
    with pytest.raises(InterruptedError):
        _new().fit(X, Y, batch_size=7, verbose=0, callbacks=[_every_batch(resume), Interrupt(2)])
    with np.load(resume.path) as arrays:
        state = {**arrays}
    np.savez(resume.path, **{**state, name: change(state[name])})
    with pytest.raises(ValueError, match="training.npz .*of another model|with other metrics"):
        _new().fit(X, Y, batch_size=7, verbose=0, callbacks=[resume])


def _every_batch(resume):
    resume.every = 1
    return resume


def test_variables_of_half_precision_come_back(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    model = tfbnn.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), tfbnn.layers.DenseFlipout(2)]
    )
    model.compile(keras.optimizers.SGD(0.1), loss=LOSS, run_eagerly=True)
    resume = tfbnn.callbacks.ResumeTraining(tmp_path, keep=True)
    model.fit(X, Y, batch_size=23, verbose=0, callbacks=[resume])
    kernel = model.layers[0].kernel
    expected = keras.ops.convert_to_numpy(kernel).astype("float32")
    assert kernel.dtype == "bfloat16"
    kernel.assign(keras.ops.zeros_like(kernel))
    model.fit(X, Y, batch_size=23, verbose=0, callbacks=[resume])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel).astype("float32"), expected)


@pytest.mark.parametrize("kind", ["a file for the folder", "a folder for the file", "a loop"])
def test_what_cannot_be_read_or_written_is_named(tmp_path, kind):
    resume = tfbnn.callbacks.ResumeTraining(tmp_path / "state")
    if kind == "a file for the folder":
        resume.folder.write_text("")
    elif kind == "a folder for the file":
        resume.path.mkdir(parents=True)
    else:
        resume.folder.symlink_to(resume.folder)
    named = {"a file for the folder": "state", "a folder for the file": "state/training.npz"}
    with pytest.raises(OSError, match="Cannot (read|make).*choose another") as caught:
        _new().fit(X, Y, verbose=0, callbacks=[resume])
    assert caught.value.filename.startswith(str(tmp_path / named.get(kind, "state")))


def test_a_full_disk_leaves_the_last_state(tmp_path, full_disk):
    resume = _every_batch(tfbnn.callbacks.ResumeTraining(tmp_path, keep=True))
    with pytest.raises(InterruptedError):
        _new().fit(X, Y, batch_size=7, verbose=0, callbacks=[resume, Interrupt(1)])
    whole = resume.path.read_bytes()
    with full_disk(len(whole) // 2), pytest.raises(OSError, match="Cannot write.*training.npz'"):
        _other().fit(X, Y, batch_size=7, verbose=0, callbacks=[resume])
    assert resume.path.read_bytes() == whole and list(tmp_path.iterdir()) == [resume.path]
    assert resume.position() == (0, 1)
    _other().fit(X, Y, batch_size=7, verbose=0, callbacks=[resume])
    assert resume.position() == (1, 0)


def test_callbacks_in_every_form_that_keras_takes(tmp_path):
    for wrap in (lambda c: c, lambda c: [c], lambda c: (c, keras.callbacks.History())):
        model, resume = _new(), tfbnn.callbacks.ResumeTraining(tmp_path, keep=True)
        model.fit(X, Y, verbose=0, callbacks=wrap(resume))
        assert resume.position() == (1, 0)
        resume.path.unlink()
    model, resume = _new(), tfbnn.callbacks.ResumeTraining(tmp_path, keep=True)
    options = {"model": model, "epochs": 1, "steps": 1, "add_history": True}
    model.fit(X, Y, verbose=0, callbacks=keras.callbacks.CallbackList([resume], **options))
    assert resume.position() == (1, 0)
    model.fit(X, Y, verbose=0, callbacks=None)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="Received: every=0"):
        tfbnn.callbacks.ResumeTraining(tmp_path, every=0)
    model = tfbnn.Sequential([tfbnn.layers.DenseFlipout(2)])
    model.compile("adam", loss=LOSS)
    with pytest.raises(ValueError, match="a model that is built"):
        model.fit(X, Y, verbose=0, callbacks=[tfbnn.callbacks.ResumeTraining(tmp_path)])


def test_the_order_of_an_epoch_is_a_permutation_of_its_own():
    rows = np.arange(23)
    batches = [
        b.numpy() for b in shuffled_batches({"x": rows}, 7, seed=5).map(lambda b: b["x"]).take(8)
    ]
    epochs = [np.concatenate(batches[:4]), np.concatenate(batches[4:])]
    assert [len(batch) for batch in batches] == [7, 7, 7, 2] * 2
    for epoch in epochs:
        assert sorted(epoch) == list(rows) and list(epoch) != list(rows)
    assert list(epochs[0]) != list(epochs[1])
    later = shuffled_batches({"x": rows}, 7, seed=5, first_step=4).take(4)
    assert list(np.concatenate([b["x"] for b in later])) == list(epochs[1])
    other = shuffled_batches({"x": rows}, 7, seed=6).take(4)
    assert list(np.concatenate([b["x"] for b in other])) != list(epochs[0])


def test_structures_of_arrays_are_fed_as_keras_does(tmp_path):
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    both = keras.layers.Concatenate()(list(inputs.values()))
    one = keras.Input((5,))
    x = {"a": X.astype("float64"), "b": X[:, :2]}
    ends = []
    for number, (start, end, rows) in enumerate(
        ((inputs, both, x), (one, one, np.concatenate(list(x.values()), 1)))
    ):
        keras.utils.set_random_seed(1)
        model = tfbnn.Model(start, tfbnn.layers.DenseFlipout(2, seed=1)(end))
        model.compile("adam", loss=LOSS)
        resume = tfbnn.callbacks.ResumeTraining(tmp_path / str(number))
        history = model.fit(rows, Y, batch_size=7, verbose=0, callbacks=[resume]).history
        assert model.num_examples == 23
        ends.append([history["loss"][0], *model.get_weights()])
    for found, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
