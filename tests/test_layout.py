"""Imports go one way, along the stages."""

import ast
import functools
import pathlib
import re

import keras
import pytest

import tfbnn

PACKAGE = pathlib.Path(__file__).parents[1] / "tfbnn"
FLOW = ["weights", "layers", "scores", "likelihoods", "training", "conversion", "posterior"]
FLOW += ["prediction", "decisions", "inspection", "pruning", "export"]
STAGES = [*FLOW, "search"]
FILES = sorted(path for stage in STAGES for path in (PACKAGE / stage).rglob("*.py"))


def _imported_stages(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "tfbnn" and len(parts) > 1 and parts[1] in STAGES:
                yield parts[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_stage_imports_only_itself_and_earlier_ones(path):
    own = STAGES.index(path.relative_to(PACKAGE).parts[0])
    later = {stage for stage in _imported_stages(path) if STAGES.index(stage) > own}
    assert not later


def test_the_check_sees_an_import():
    assert "weights" in set(_imported_stages(PACKAGE / "layers" / "variational.py"))


@pytest.mark.parametrize("name", ["lite.py", "lite_rules.py"])
def test_lite_imports_nothing_of_the_package(name):
    tree = ast.parse((PACKAGE / name).read_text())
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not {m for m in modules if m.startswith(("tfbnn", "tensorflow", "keras"))}


INTERNALS = PACKAGE / "layers" / "keras_internals.py"


@functools.cache
def _names_of_keras():
    """The private names of Keras' objects: a compiled model, its parts, and what it is fed with."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    sequential = keras.Sequential([inputs, keras.layers.Dense(1)])
    for one in (model, sequential):
        one.compile("adam", "mse")
        one.optimizer.build(one.trainable_variables)
    parts = [model, sequential, *model.layers, inputs, model.optimizer, *model.variables]
    parts += [keras.losses.MeanSquaredError(), keras.metrics.Mean(), keras.callbacks.Callback()]
    names = {name for part in parts for name in dir(part)} | {"_keras_mask", "_initial_epoch"}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def _private_uses(tree):
    """The owner (a name, or None) and the name of every attribute that is asked for by either."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield getattr(node.value, "id", None), node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield None, node.value


def _own_names(tree):
    """What the classes of a file define, or set on `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _faults(source):
    tree = ast.parse(source)
    own = set(_own_names(tree))
    for owner, name in _private_uses(tree):
        if name in _names_of_keras() and not (owner in ("self", "cls") and name in own):
            yield name
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [ast.unparse(node)] if isinstance(node, ast.Attribute) else []
        yield from (name for name in modules if name.startswith("keras.src"))


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PACKAGE.rglob("*.py")) if path != INTERNALS],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_private_names_of_keras_are_in_one_file(path):
    assert not list(_faults(path.read_text()))


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("model._flatten_layers()", "_flatten_layers"),
        ("getattr(output, '_keras_mask', None)", "_keras_mask"),
        ("class A:\n    def f(self):\n        return self._loss_tracker", "_loss_tracker"),
        ("from keras.src import backend", "keras.src"),
        ("seed = keras.src.utils.rng_utils", "keras.src"),
    ],
)
def test_the_check_sees_a_private_name(source, fault):
    assert any(name.startswith(fault) for name in _faults(source))


@pytest.mark.parametrize("cls", [tfbnn.Sequential, tfbnn.Model])
def test_models_override_no_private_method_of_keras(cls):
    ours = [one for one in cls.__mro__ if one.__module__.startswith("tfbnn.training")]
    names = {name for one in ours for name in vars(one)}
    assert not {name for name in names & _names_of_keras() if not name.startswith("_abc_")}


def test_the_design_names_every_file_of_training():
    design = (PACKAGE.parent / "docs" / "design.md").read_text()
    row = next(line for line in design.splitlines() if line.startswith("| `training/`"))
    named = set(re.findall(r"`(\w+)`", row))
    assert named == {path.stem for path in (PACKAGE / "training").glob("*.py")} - {"__init__"}


def _functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def _length(function):
    """Lines of a function without its docstring."""
    own = function.body[0]
    described = isinstance(own, ast.Expr) and isinstance(own.value, ast.Constant)
    docstring = own.end_lineno - own.lineno + 1 if described else 0
    return function.end_lineno - function.lineno + 1 - docstring


def _num_parameters(function):
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_fit_on_a_screen(path):
    assert not [one.name for one in _functions(path) if _length(one) > 50]
    # `fit` is Keras', and layers have the arguments of their Keras namesakes.
    wide = {one.name for one in _functions(path) if _num_parameters(one) > 10}
    assert wide <= {"fit"} or path.name == "linear_layer.py"
