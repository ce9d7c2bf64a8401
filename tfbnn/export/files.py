"""Files: an export is there as a whole or not at all."""

import contextlib
import gzip
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def written_whole(targets: Sequence[pathlib.Path], overwrite: bool) -> Iterator[list[pathlib.Path]]:
    """Temporary paths, which take the places of `targets` if the block ends without an error.

    Args:
        targets: Files or folders to write, all in one folder.
        overwrite: Whether existing ones may be replaced. A folder that is no SavedModel never is.

    Yields:
        A path to write to for each of `targets`, with the same name; it does not exist yet.

    Raises:
        FileExistsError: If one of `targets` exists and may not be replaced.
        OSError: If the folder cannot be written to, or is full. A folder that was made for the
            targets is gone again.
    """
    for target in targets:
        _check_free(target, overwrite)
    parent = targets[0].parent
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{targets[0].name}.", dir=parent))
    except OSError as error:
        _remove_empty(made)
        raise OSError(
            f"Cannot write to the folder {parent} ({error.strerror}). Received: path={targets[0]}"
        ) from error
    try:
        yield [folder / target.name for target in targets]
        for target in targets:
            _replace(folder / target.name, target, folder)
    except OSError as error:
        raise OSError(
            f"Cannot write {targets[0]} ({error.strerror or error}); nothing of it was kept."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(made)


def num_bytes(path: str | os.PathLike) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in _files(path))


def num_gzip_bytes(path: str | os.PathLike) -> int:
    """Bytes after gzip, level 9, of a file, or the sum over all files below a folder."""
    return sum(len(gzip.compress(file.read_bytes(), 9)) for file in _files(path))


def _check_free(target: pathlib.Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"{target} exists and is not overwritten; choose another path or pass "
            "`overwrite=True`. Received: overwrite=False"
        )
    if target.is_dir() and not (target / "saved_model.pb").is_file():
        raise FileExistsError(
            f"{target} is a folder that holds no SavedModel, and is not replaced even with "
            "`overwrite=True`; choose another path."
        )


def _remove_empty(folders: Sequence[pathlib.Path]) -> None:
    """Remove folders, the inner ones first, up to one that holds something."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _replace(source: pathlib.Path, target: pathlib.Path, folder: pathlib.Path) -> None:
    # The old one is moved away, not deleted first: it is there until the new one is.
    if target.exists():
        os.replace(target, folder / f"{target.name}.old")
    os.replace(source, target)


def _files(path: str | os.PathLike) -> list[pathlib.Path]:
    path = pathlib.Path(path)
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
