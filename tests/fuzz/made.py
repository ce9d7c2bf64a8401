"""What several cases need is made by the first of them, and kept for all runs of the same code."""

import functools
import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable


def made_once(folder: pathlib.Path, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """The folder, filled by `make(folder)` if it is not there; several processes may ask."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            # Another process was first.
            shutil.rmtree(unfinished)
    return folder


@functools.cache
def version() -> str:
    """Of the package and of these tests."""
    digest = hashlib.sha256()
    here = pathlib.Path(__file__).parent
    for file in sorted([*here.glob("*.py"), *(here.parents[1] / "tfbnn").rglob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
