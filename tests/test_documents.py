"""The documents tell the truth: their code runs, their links lead somewhere."""

import pathlib
import re
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*DOCUMENTS, *sorted(ROOT.glob("C*.md")), ROOT / "saved_models" / "README.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->\s*\Z")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


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
    blocks = runnable_blocks(path.read_text())
    if not blocks:
        pytest.skip("no code in it")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for code, line in blocks:
        # Empty lines in front, so that a traceback names the line of the document.
        exec(compile("\n" * line + code, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_lead_to_files(path):
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert not missing


def test_ci_runs_the_command_of_the_readme():
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert f"```bash\n{command}\n```" in (ROOT / "README.md").read_text()
