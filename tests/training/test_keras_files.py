"""Damaged `.keras` files are named; what only needs a class keeps Keras' own words."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

import tfbnn

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


class Unregistered(keras.layers.Layer):
    def call(self, inputs):
        return inputs


class Incompatible(keras.layers.Layer):
    def __init__(self, number, **kwargs):
        super().__init__(**kwargs)

    def get_config(self):
        return {"name": self.name}

    def call(self, inputs):
        return inputs


def _saved(path, *layers):
    layers = [keras.Input((3,)), *layers, tfbnn.layers.DenseFlipout(2)]
    model = tfbnn.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss=loss)
    model.optimizer.build(model.trainable_variables)
    model.save(path)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, and the bytes of its file."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    return _saved(path), path.read_bytes()


def _with(content, **members):
    """The archive with other members, checksums right; None leaves one out."""
    members = {name.replace("_", "."): value for name, value in members.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in dict.fromkeys([*old.namelist(), *members]):
            value = members[name] if name in members else old.read(name)
            value = value(old.read(name)) if callable(value) else value
            if value is not None:
                new.writestr(name, value)
    return file.getvalue()


def _config(content, change):
    """The archive with another configuration."""

    def changed(text):
        config = json.loads(text)
        change(config)
        return json.dumps(config)

    return _with(content, config_json=changed)


def _changed(content, at):
    changed = bytearray(content)
    changed[at] ^= 0x20
    return bytes(changed)


def _weights(change):
    def changed(content):
        file = io.BytesIO(content)
        with h5py.File(file, "r+") as weights:
            change(weights)
        return file.getvalue()

    return changed


def _misnamed(content):
    name = zipfile.ZipFile(io.BytesIO(content)).infolist()[1]
    return content[: name.header_offset] + b"\0" * 40 + content[name.header_offset + 40 :]


DAMAGED = {
    "empty": lambda c: b"",
    "text": lambda c: b"not a model",
    "half": lambda c: c[: len(c) // 2],
    "without its end": lambda c: c[:-30],
    "a bit of the weights": lambda c: _changed(c, c.index(b"\x89HDF") + 2000),
    "a bit of the configuration": lambda c: _changed(c, c.index(b'"class_name"') + 3),
    "a header of zeros": _misnamed,
    "no configuration": lambda c: _with(c, config_json=None),
    "no weights": lambda c: _with(c, **{"model_weights_h5": None}),
    "weights that are none": lambda c: _with(c, model_weights_h5=b"\x89HDF not"),
    "half of the weights": lambda c: _with(c, model_weights_h5=lambda w: w[: len(w) // 2]),
    "weights without a group": lambda c: _with(
        c, model_weights_h5=_weights(lambda w: w.pop("layers"))
    ),
    "no metadata": lambda c: _with(c, metadata_json=None),
    "metadata that are none": lambda c: _with(c, metadata_json=b"{"),
    "a configuration that is none": lambda c: _with(c, config_json=b"{"),
    "a configuration that is a number": lambda c: _with(c, config_json=b"3"),
    "a configuration that is an array": lambda c: _with(c, config_json=b"[]"),
    "a configuration that is not UTF-8": lambda c: _with(c, config_json=b'{"a": "\xff"}'),
    "a deep configuration": lambda c: _with(c, config_json=b'{"a":' * 200_000),
    "an empty configuration": lambda c: _with(c, config_json=b"{}"),
    "no layers": lambda c: _config(c, lambda config: config["config"].pop("layers")),
    "units of a word": lambda c: _config(
        c, lambda config: config["config"]["layers"][1]["config"].update(units="two")
    ),
    "other units": lambda c: _config(
        c, lambda config: config["config"]["layers"][1]["config"].update(units=7)
    ),
    "a class of ours that is none": lambda c: _config(
        c, lambda config: config.update(class_name="Sequentia", registered_name="tfbnn>Sequentia")
    ),
    "a registered name that is an array": lambda c: _config(
        c, lambda config: config.update(registered_name=["tfbnn>Sequential"])
    ),
    "an unknown argument": lambda c: _config(
        c, lambda config: config["config"]["layers"][1]["config"].update(unknown=7)
    ),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(damage, saved, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(damage(saved[1]))
    with pytest.raises(ValueError, match=f"{path} cannot be read as a model: it is damaged") as e:
        tfbnn.load_model(path)
    assert e.value.__cause__ is not None


def test_any_change_of_bytes_is_found_or_harmless(saved, tmp_path):
    model, content = saved
    path = tmp_path / "model.keras"
    expected = model(X)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(content), 25):
        path.write_bytes(_changed(content, at))
        try:
            found = tfbnn.load_model(path, compile=False)(X)
        except ValueError as error:
            assert f"{path} cannot be read as a model" in str(error)
        else:
            np.testing.assert_array_equal(found, expected)


def test_a_whole_file_is_loaded(saved, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(saved[1])
    for argument in (path, str(path)):
        np.testing.assert_array_equal(tfbnn.load_model(argument)(X), saved[0](X))


def test_a_class_that_is_not_registered_keeps_the_words_of_keras(tmp_path):
    path = tmp_path / "model.keras"
    model = _saved(path, Unregistered())
    with pytest.raises(TypeError, match="Could not locate class 'Unregistered'") as caught:
        tfbnn.load_model(path)
    assert str(path) in "".join(caught.value.__notes__)
    loaded = tfbnn.load_model(path, custom_objects={"Unregistered": Unregistered})
    np.testing.assert_array_equal(loaded(X), model(X))
    with keras.saving.custom_object_scope({"Unregistered": Unregistered}):
        np.testing.assert_array_equal(tfbnn.load_model(path)(X), model(X))


def _of_a_script(x):
    return x


def test_what_stands_in_a_script_keeps_the_words_of_keras(tmp_path, monkeypatch):
    monkeypatch.setattr(Unregistered, "__module__", "__main__")
    monkeypatch.setattr(_of_a_script, "__module__", "__main__")
    path = tmp_path / "model.keras"
    for layer, name in (
        (Unregistered(), "Unregistered"),
        (keras.layers.Dense(3, activation=_of_a_script), "_of_a_script"),
    ):
        model = _saved(path, layer)
        with pytest.raises((TypeError, ValueError), match=f"(?i)could not .*{name}") as caught:
            tfbnn.load_model(path)
        assert "damaged" not in str(caught.value) and str(path) in "".join(caught.value.__notes__)
        known = {"Unregistered": Unregistered, "_of_a_script": _of_a_script}
        np.testing.assert_array_equal(tfbnn.load_model(path, custom_objects=known)(X), model(X))


def test_a_lambda_keeps_the_words_of_keras(tmp_path):
    path = tmp_path / "model.keras"
    model = _saved(path, keras.layers.Lambda(lambda x: 2.0 * x))
    with pytest.raises(ValueError, match="safe_mode=False"):
        tfbnn.load_model(path)
    np.testing.assert_array_equal(tfbnn.load_model(path, safe_mode=False)(X), model(X))


def test_a_class_that_cannot_be_made_from_the_file_is_named(tmp_path):
    path = tmp_path / "model.keras"
    with keras.saving.custom_object_scope({"Incompatible": Incompatible}):
        _saved(path, Incompatible(1))
        with pytest.raises(ValueError, match=f"{path} cannot.*other versions of the.*TypeError"):
            tfbnn.load_model(path)


def test_what_is_no_damage_is_not_called_damage(tmp_path, saved):
    with pytest.raises(ValueError, match="File not found.*nothing.keras"):
        tfbnn.load_model(tmp_path / "nothing.keras")
    with pytest.raises(ValueError, match="File format not supported"):
        tfbnn.load_model(tmp_path)
    path = tmp_path / "model.keras"
    path.write_bytes(saved[1])
    with pytest.raises(TypeError, match="unexpected keyword argument 'unknown'"):
        tfbnn.load_model(path, unknown=1)


def test_memory_that_is_not_there_is_no_damage(tmp_path, saved, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_bytes(saved[1])

    def fail(filepath):
        raise MemoryError("too large")

    monkeypatch.setattr(keras.models, "load_model", fail)
    with pytest.raises(MemoryError, match="too large"):
        tfbnn.load_model(path)
