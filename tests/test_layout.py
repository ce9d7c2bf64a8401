"""Imports go one way, along the stages."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "tfbnn"
FLOW = ["weights", "layers", "scores", "likelihoods", "training", "posterior", "prediction"]
FLOW += ["pruning", "export"]
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


def test_lite_imports_nothing_of_the_package():
    tree = ast.parse((PACKAGE / "lite.py").read_text())
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not {m for m in modules if m.startswith(("tfbnn", "tensorflow", "keras"))}
