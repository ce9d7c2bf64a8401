"""Every public name exists, also as a module."""

import ast
import importlib
import pathlib

import pytest

import tfbnn


@pytest.mark.parametrize("name", tfbnn.__all__)
def test_it_is_there(name):
    assert getattr(tfbnn, name) is not None
    assert name in dir(tfbnn)


@pytest.mark.parametrize("name", tfbnn._MODULES)
def test_short_names_import_as_modules(name):
    module = importlib.import_module(f"tfbnn.{name}")
    assert module is getattr(tfbnn, name) and module.__doc__


def test_all_twelve_layers_exist():
    for linear_map in ("Dense", "Convolution1D", "Convolution2D", "Convolution3D"):
        for estimator in ("Reparameterization", "LocalReparameterization", "Flipout"):
            layer = getattr(tfbnn.layers, linear_map + estimator)
            assert layer.__name__ == linear_map + estimator
            assert layer.estimator.replace("_", "") == estimator.lower()


def test_editors_see_the_names_that_are_loaded_when_they_are_used():
    tree = ast.parse(pathlib.Path(tfbnn.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [one for block in blocks for one in block.body]
    assert all(ast.unparse(block.test) == "TYPE_CHECKING" for block in blocks)
    seen = {alias.name: one.module for one in imports for alias in one.names}
    assert seen == {**tfbnn._HOMES, **dict.fromkeys(tfbnn._MODULES, "tfbnn")}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tfbnn.nothing
