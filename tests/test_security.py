"""What files may do to who opens them: the tests that `SECURITY.md` names, and that they exist."""

import io
import json
import os
import pathlib
import re
import zipfile

import keras
import pytest
from keras.src.utils import python_utils

import tfbnn

REPOSITORY = pathlib.Path(tfbnn.__file__).parents[1]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a `.keras` file with every kind of object of tfbnn in it."""
    layer = tfbnn.layers.DenseFlipout(2, activation="relu", bias_posterior="normal")
    model = tfbnn.Sequential([keras.Input((3,)), layer, keras.layers.Activation("relu")])
    model.compile("adam", loss=tfbnn.losses.NormalNLL(scale=1.0), kl_schedule="minibatch_weights")
    model.optimizer.build(model.trainable_variables)
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return path.read_bytes()


@pytest.fixture
def changed(saved, tmp_path, monkeypatch):
    """Writes the file with another configuration and more members; nothing else may appear."""
    (tmp_path / "inner" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inner" / "here")
    path = pathlib.Path.cwd() / "model.keras"

    def write(change=lambda config: None, compression=zipfile.ZIP_STORED, **members):
        content = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(saved)) as old, zipfile.ZipFile(content, "w") as new:
            for name in old.namelist():
                value = old.read(name)
                if name == "config.json":
                    config = json.loads(value)
                    change(config)
                    value = json.dumps(config)
                new.writestr(name, value)
            for name, value in members.items():
                new.writestr(name, value, compression)
        path.write_bytes(content.getvalue())
        return path

    yield write
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


def _dumped():
    """The bytes of a function that leaves a file behind."""
    return python_utils.func_dump(lambda x=None, *rest, **more: open("opened", "w").close())


def _lambda_layer():
    code, defaults, closure = _dumped()
    value = {"code": code, "defaults": defaults, "closure": closure}
    return _keras_object("Lambda", function={"class_name": "__lambda__", "config": value})


def _keras_object(name, module="keras.layers", **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def _function(module, name):
    return {**_keras_object("function", module), "config": name, "registered_name": name}


ATTACKS = {
    "a marshalled function": lambda: {"class_name": "__lambda__", "config": {"value": _dumped()}},
    "a layer with a marshalled function": _lambda_layer,
    "a layer that loads a SavedModel": lambda: _keras_object("TFSMLayer", filepath="model"),
    "a function of the system": lambda: _function("os", "system"),
    "a builtin function": lambda: _function("builtins", "eval"),
    "a class of the system": lambda: _keras_object("Popen", "subprocess", args="touch opened"),
    "a function that downloads": lambda: _function("keras.utils", "get_file"),
    "a function that turns safety off": lambda: _function(
        "keras.config", "enable_unsafe_deserialization"
    ),
    "a class of the package that is no object of a model": lambda: _keras_object(
        "ResumeTraining", "tfbnn.training.resuming", folder="."
    ),
}


def _layer(name):
    def put(config, attack):
        config["config"]["layers"][1]["config"][name] = attack

    return put


def _bayesian(put):
    return lambda config, attack: put(config["config"]["bayesian"], attack)


# Wherever the configuration of a model of tfbnn holds an object.
PLACES = {
    name: _layer(name)
    for name in (
        "activation",
        "kernel_initializer",
        "bias_regularizer",
        "activity_regularizer",
        "kernel_constraint",
        "kernel_prior",
        "bias_posterior",
        "dtype",
    )
}
PLACES |= {
    "a layer": lambda config, attack: config["config"]["layers"].append(attack),
    "the model": lambda config, attack: (config.clear(), config.update(attack)),
    "kl_schedule": _bayesian(lambda state, attack: state.update(kl_schedule=attack)),
    "a likelihood": _bayesian(lambda state, attack: state["likelihoods"][0].update(loss=attack)),
    "loss": lambda config, attack: config["compile_config"].update(loss=attack),
    "optimizer": lambda config, attack: config["compile_config"].update(optimizer=attack),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_keras_file_runs_no_code(attack, place, changed):
    path = changed(lambda config: PLACES[place](config, ATTACKS[attack]()))
    with pytest.raises((ValueError, TypeError)):
        tfbnn.load_model(path)


@pytest.mark.parametrize("attack", ["a marshalled function", "a layer with a marshalled function"])
def test_code_in_a_keras_file_is_refused_in_the_words_of_keras(attack, changed):
    path = changed(lambda config: PLACES["activation"](config, ATTACKS[attack]()))
    with pytest.raises((ValueError, TypeError), match="safe_mode=False"):
        tfbnn.load_model(path)


@pytest.mark.parametrize(
    "name",
    ["os", "__builtins__", "__class__", "kl_divergence", "RegisterKL", "Distribution.mro", "", "1"],
)
def test_a_prior_names_distributions_and_nothing_else(name):
    config = {"type": name, "parameters": {}}
    nested = {"type": "Normal", "parameters": {"loc": config, "scale": 1.0}}
    for distribution in (config, nested):
        with pytest.raises(ValueError, match="`tfp.distributions` has no such distribution"):
            tfbnn.priors.Distribution.from_config({"distribution": distribution})


def test_a_prior_evaluates_no_text(changed):
    code = "__import__('pathlib').Path('opened').touch()"
    parameters = {"loc": code, "scale": 1.0}
    prior = {
        "module": "tfbnn.weights.tfp_distributions",
        "class_name": "Distribution",
        "config": {"distribution": {"type": "Normal", "parameters": parameters}},
        "registered_name": "tfbnn.priors>Distribution",
    }
    path = changed(lambda config: PLACES["kernel_prior"](config, prior))
    with pytest.raises(ValueError, match="model.keras cannot be read as a model"):
        tfbnn.load_model(path)


@pytest.mark.parametrize(
    "name", ["../outside", "assets/../../outside", "/outside", "..\\outside", "C:\\outside"]
)
def test_members_outside_of_a_keras_file(name, changed):
    with pytest.raises(ValueError, match="would lie outside"):
        tfbnn.load_model(changed(**{name: b"content"}))


@pytest.mark.parametrize("name", ["assets/bomb", "model.weights.npz"])
def test_a_keras_file_that_grows(name, changed):
    path = changed(compression=zipfile.ZIP_DEFLATED, **{name: bytes(2**23)})
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match=f"'{name}' grows to {2**23} bytes"):
        tfbnn.load_model(path)


def test_every_test_that_the_threat_model_names_is_there():
    text = (REPOSITORY / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 10
    for file, name in named:
        assert re.search(rf"^def {name}\(", (REPOSITORY / file).read_text(), re.MULTILINE), name


@pytest.mark.skipif(os.name == "nt", reason="needs a folder of the system")
def test_loading_leaves_nothing_behind(changed):
    path = changed()
    assert tfbnn.load_model(path).count_params() > 0
