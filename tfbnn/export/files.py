"""Files: an export is there as a whole or not at all, whenever its writer is killed.

What is written lies in a hidden folder beside its place, `.<name>.unfinished`:

| in it | what it is |
|---|---|
| `lock` | locked by the process that writes, and by nobody as soon as that has ended |
| `new` | files that are being written |
| `whole` | the same folder under another name, once all in it is complete and on the disk |
| `replaced` | a folder that had to leave its place |

With the new name of `new` the export has happened. Then each file takes its place in one step, over
an old one that is there until then. If the writer is killed before the new name, the old set is as
it was; after it, every file of the new set is in its place or in `whole`, and the next export to
the same path begins by finishing this one. It removes what else was left, and waits for a writer
that lives.
"""

import contextlib
import ctypes
import errno
import gzip
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Sequence

from tfbnn.whole_files import flush_names

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NEW, _WHOLE, _REPLACED, _LOCK = "new", "whole", "replaced", "lock"
# In a folder that has yet to take its place; it tells the two apart after they have changed places.
_MARK = ".unfinished"
# Of Linux: relative to the working directory, and two paths change places.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def written_whole(targets: Sequence[pathlib.Path], overwrite: bool) -> Iterator[list[pathlib.Path]]:
    """Temporary paths, which take the places of `targets` if the block ends without an error.

    A process that is killed, or a machine that loses its power, leaves the old set or the new one,
    or the new one in two parts (see above) that the next call puts together. A file is never
    missing. A folder is not either where the system can let two of them change places (Linux);
    elsewhere it is for a moment, and after a kill in it until the next call.

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
    parent = targets[0].parent
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    folder = parent / f".{targets[0].name}.unfinished"
    try:
        lock = _locked(folder)
    except OSError as error:
        _remove_empty(made)
        reason = f"Cannot write to the folder ({error.strerror}). Received: path={targets[0]}"
        raise OSError(error.errno, reason, os.fspath(parent)) from error
    try:
        _put_in_place(folder)
        for target in targets:
            _check_free(target, overwrite)
        yield from _written(folder, targets)
        _put_in_place(folder)
    finally:
        _remove(folder, lock)
        _remove_empty(made)


def num_bytes(path: str | os.PathLike) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in _files(path))


def num_gzip_bytes(path: str | os.PathLike) -> int:
    """Bytes after gzip, level 9, of a file, or the sum over all files below a folder."""
    return sum(len(gzip.compress(file.read_bytes(), 9)) for file in _files(path))


def _written(folder: pathlib.Path, targets: Sequence[pathlib.Path]) -> Iterator[list[pathlib.Path]]:
    """Yield the temporary paths once; then all that was written there is on the disk."""
    new = folder / _NEW
    paths = [new / target.name for target in targets]
    try:
        new.mkdir()
        yield paths
        for path in paths:
            if path.is_dir():
                (path / _MARK).touch()
        _flush(new)
        os.rename(new, folder / _WHOLE)
        flush_names(folder)
    except OSError as error:
        if error.errno is None or not _is_about(error, new):
            raise
        reason = f"Cannot write ({error.strerror}); nothing of it was kept"
        raise OSError(error.errno, reason, os.fspath(targets[0])) from error


def _is_about(error: OSError, folder: pathlib.Path) -> bool:
    """Whether an error of the system is about a folder or what is in it, or names no file."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return True
    path = pathlib.Path(os.fsdecode(error.filename))
    return folder in (path, *path.parents)


def _put_in_place(folder: pathlib.Path) -> None:
    """Give what is whole its places, also what a process that was killed has not come to."""
    _discard(folder)
    whole, parent = folder / _WHOLE, folder.parent
    if not whole.is_dir():
        return
    try:
        # A file comes before its manifest, by their names.
        for source in sorted(whole.iterdir()):
            _place(source, parent / source.name, folder / _REPLACED)
        flush_names(parent)
        whole.rmdir()
    except OSError as error:
        reason = (
            f"Cannot put new files in place ({error.strerror}). They are complete in {whole} and "
            "will be put in place by the next export to the same path; remove that folder if they "
            "are not wanted"
        )
        raise OSError(error.errno, reason, os.fspath(parent)) from error
    _discard(folder)


def _place(source: pathlib.Path, target: pathlib.Path, replaced: pathlib.Path) -> None:
    """Give a file or a folder its place, from any step on at which this was interrupted."""
    if not source.is_dir():
        if target.is_dir():
            os.rename(target, replaced)
        os.replace(source, target)
        return
    if os.path.lexists(target) and (source / _MARK).exists():
        if target.is_symlink() or not target.is_dir() or not _exchange(source, target):
            os.rename(target, replaced)
    if os.path.lexists(target):
        (target / _MARK).unlink(missing_ok=True)
        os.rename(source, replaced)
    else:
        (source / _MARK).unlink(missing_ok=True)
        os.rename(source, target)


def _exchange(source: pathlib.Path, target: pathlib.Path) -> bool:
    """Let two folders change places in one step; whether the system can."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    # One that an interrupted export has left there.
    (target / _MARK).unlink(missing_ok=True)
    paths = _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target)
    return rename is not None and rename(*paths, _RENAME_EXCHANGE) == 0


def _locked(folder: pathlib.Path) -> int:
    """Make a folder and lock it for this process; the descriptor that holds the lock."""
    while True:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        _check_own(folder)
        # Whoever had the lock before removes the folder.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                _wait_for(lock)
                if os.path.samestat(os.fstat(lock), os.stat(folder / _LOCK)):
                    return lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)


def _check_own(folder: pathlib.Path) -> None:
    """Refuse a folder in which somebody else could have put files for us to put in place."""
    if folder.is_symlink() or not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is in the way and no folder; remove it")
    if hasattr(os, "geteuid") and folder.stat().st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, f"{folder} is of another user; remove it")


def _wait_for(lock: int) -> None:
    # Not every file system has locks; writers to one path must then not meet.
    with contextlib.suppress(OSError):
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)


def _remove(folder: pathlib.Path, lock: int) -> None:
    """Remove the folder, but for files that are whole, and let go of the lock last."""
    _discard(folder)
    with contextlib.suppress(OSError):
        (folder / _LOCK).unlink()
        folder.rmdir()
    os.close(lock)


def _discard(folder: pathlib.Path) -> None:
    """Remove what is not needed any more."""
    for path in (folder / _NEW, folder / _REPLACED):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _check_free(target: pathlib.Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
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


def _flush(folder: pathlib.Path) -> None:
    """Let everything in a folder reach the disk."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            flush_names(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _files(path: str | os.PathLike) -> list[pathlib.Path]:
    path = pathlib.Path(path)
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
