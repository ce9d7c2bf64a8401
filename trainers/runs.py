"""Runs: the folder of one run, which is complete or not there."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from tfbnn.whole_files import whole_file

# More than a run writes; a disk that is nearly full should say so before hours of training.
_PROBE_BYTES = 64 * 2**20

METRICS = "metrics.json"

# Settings that earlier runs know by another name.
_RENAMED = {"export_samples": "num_samples_in_file"}

# They change where a run is, not what it is.
PLACES = ("data_dir", "output", "name", "json", "strategy", "devices", "resume")


def default_name(dataset: str) -> str:
    """`<dataset>-<date-time>`, local time."""
    return f"{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"


@contextlib.contextmanager
def run_folder(output: str | os.PathLike, name: str) -> Iterator[pathlib.Path]:
    """A folder to work in, which becomes `output/name` if the block ends without an error.

    After an error it stays, under another name, if a model is in it, and is removed if not.

    Args:
        output: Folder of all runs; made if it is missing.
        name: Name of the run.

    Yields:
        The folder to write to.

    Raises:
        FileExistsError: If `output/name` exists; at the end too, if it was made meanwhile.
        OSError: If the folder cannot be written to, or has no room.
    """
    target = pathlib.Path(output) / name
    _refuse_existing(target)
    working = _writable_folder(target)
    try:
        yield working
        _refuse_existing(target)
        os.rename(working, target)
    except BaseException as error:
        if any(working.glob("*.keras")):
            error.add_note(f"What was written so far is in {working}")
        else:
            shutil.rmtree(working, ignore_errors=True)
        raise


def print_contents(folder: pathlib.Path) -> None:
    """Say what is in the folder of a run that has ended."""
    print(f"Everything is in {folder}:")
    for path in sorted(folder.iterdir()):
        print(f"  {path.name}{os.sep if path.is_dir() else ''}")


def check_writable(path: str | os.PathLike) -> None:
    """Raise an `OSError` now if the file `path` could not be written later."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, where a file is to be written.")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"Cannot write {path}: {error.strerror}.") from error


def refuse_other_settings(
    folder: pathlib.Path, there: dict[str, Any], wanted: Any, places: tuple[str, ...] = PLACES
) -> None:
    """Raise a `ValueError` if the folder holds a run with other settings.

    Args:
        folder: The run.
        there: Its settings, as JSON gave them.
        wanted: Settings, a dataclass.
        places: Those that may differ.
    """
    there = {_RENAMED.get(name, name): value for name, value in there.items()}
    values = json.loads(json.dumps(dataclasses.asdict(wanted)))
    other = [name for name in values if name not in places and there.get(name) != values[name]]
    if other:
        raise ValueError(
            f"{folder} was run with other settings; choose another --name. Received: "
            + ", ".join(f"{name}={values[name]}, not {there.get(name)}" for name in other)
        )


def read_json(path: pathlib.Path) -> Any:
    """What `write_json` wrote.

    Raises:
        ValueError: If the file holds no JSON; it is named.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged: choose another --name, or remove the folder. Received: {error}"
        ) from error


def write_json(content: Any, path: str | os.PathLike) -> None:
    """Write JSON so that a reader sees all of it or nothing."""
    # The processes of a search may all claim its folder.
    with whole_file(pathlib.Path(path), several_writers=True) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def _refuse_existing(target: pathlib.Path) -> None:
    if target.exists():
        raise FileExistsError(
            f"{target} exists and a run is never overwritten: choose another --name or --output, "
            "or remove it."
        )


def _writable_folder(target: pathlib.Path) -> pathlib.Path:
    working = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{target.name}.unfinished-"
        working = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        working.chmod(0o755)
        probe = working / "probe"
        probe.write_bytes(bytes(_PROBE_BYTES))
        probe.unlink()
    except OSError as error:
        if working is not None:
            shutil.rmtree(working, ignore_errors=True)
        raise OSError(
            f"Cannot write a run to {target.parent}: {error.strerror}. Give a writable folder with "
            f"at least {_PROBE_BYTES // 2**20} MB of room as --output."
        ) from error
    return working
