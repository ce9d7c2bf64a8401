"""The documents tell the truth: their code runs, their links lead somewhere."""

import ast
import pathlib
import re
from typing import NamedTuple

import pytest

import tfbnn

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*DOCUMENTS, *sorted(ROOT.glob("C*.md")), ROOT / "saved_models" / "README.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->\s*\Z")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
# In code: `tfbnn/weights/noise.py`; not `tests/<stage>/`.
NAMED = re.compile(r"(?<![\w./-])((?:tfbnn|tests|trainers|benchmarks|docs)/[\w./*-]+)(?![\w<])")


class Block(NamedTuple):
    code: str
    line: int


def runnable_blocks(text: str) -> list[Block]:
    """Python blocks, except those under `<!-- not run: reason -->`, and the lines they start at."""
    return [
        Block(match[1], text.count("\n", 0, match.start(1)))
        for match in BLOCK.finditer(text)
        if not NOT_RUN.search(text[: match.start()])
    ]


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def test_blocks_are_found():
    text = "```python\na = 1\n```\n\n<!-- not run: needs a GPU -->\n```python\nb = 2\n```\n"
    text += "<!-- not run: -->\n```python\nc = 3\n```\n```bash\nls\n```\n"
    assert runnable_blocks(text) == [("a = 1\n", 1), ("c = 3\n", 10)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_code_runs(path, tmp_path, monkeypatch):
    if not runnable_blocks(path.read_text()):
        pytest.skip("no code in it")
    monkeypatch.chdir(tmp_path)
    run(path)


def run(path: pathlib.Path) -> None:
    namespace = {"__name__": "__main__"}
    for code, line in runnable_blocks(path.read_text()):
        # Empty lines in front, so that a traceback names the line of the document.
        exec(compile("\n" * line + code, str(path), "exec"), namespace)


@pytest.mark.filterwarnings("ignore:Sigma never left its start")
def test_the_readme_runs_again_in_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit = tfbnn.Sequential.fit
    # What two epochs learn will do.
    monkeypatch.setattr(tfbnn.Sequential, "fit", lambda *a, **k: fit(*a, **(k | {"epochs": 2})))
    written = []
    for _ in range(2):
        run(ROOT / "README.md")
        written.append((tmp_path / "out" / "model.tflite").stat().st_mtime_ns)
    assert written[0] < written[1]
    for log in (tmp_path / "logs", tmp_path / "logs" / "run_2"):
        assert {"sigma.csv", "sigma.png"} <= {path.name for path in log.iterdir()}


# For the others it is enough that none writes a file that must not exist: what takes time has run.
@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_what_a_document_exports_may_exist(path):
    for code, _ in runnable_blocks(path.read_text()):
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        for text in map(ast.unparse, calls):
            # Modes and options are classes, and write nothing.
            if re.match(r"tfbnn\.export\.[a-z]", text):
                assert "overwrite=True" in text


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_lead_to_files(path):
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert not missing


def test_files_that_are_named_are_there():
    names = {name.rstrip(".") for path in TEXTS for name in NAMED.findall(path.read_text())}
    assert "tfbnn/weights/divergences.py" in names
    assert not [name for name in names if not any(ROOT.glob(name))]


def test_ci_runs_the_command_of_the_readme():
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert f"```bash\n{command}\n```" in (ROOT / "README.md").read_text()
