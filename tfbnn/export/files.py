"""Files: an export is there as a whole or not at all."""

import contextlib
import gzip
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, overwrite: bool) -> Iterator[pathlib.Path]:
    """A temporary path beside `path`, which takes its place if the block ends without an error.

    Args:
        path: File or folder to write.
        overwrite: Whether an existing one may be replaced.

    Yields:
        The path to write to; it does not exist yet.

    Raises:
        FileExistsError: If `path` exists and may not be replaced.
        OSError: If the folder cannot be written to.
    """
    target = pathlib.Path(path)
    if target.exists() and not overwrite:
        raise FileExistsError(
            f"{target} exists and is not overwritten; choose another path or pass "
            "`overwrite=True`. Received: overwrite=False"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OSError(
            f"Cannot write to the folder {target.parent} ({error.strerror}). Received: path={path}"
        ) from error
    try:
        temporary = folder / target.name
        yield temporary
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def num_bytes(path: str | os.PathLike) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in _files(path))


def num_gzip_bytes(path: str | os.PathLike) -> int:
    """Bytes after gzip, level 9, of a file, or the sum over all files below a folder."""
    return sum(len(gzip.compress(file.read_bytes(), 9)) for file in _files(path))


def _files(path: str | os.PathLike) -> list[pathlib.Path]:
    path = pathlib.Path(path)
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
