"""Whole files: a reader finds the old file or the new one, whenever the writer is killed."""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

from tfbnn import arguments

# A name that is there already, a symbolic link to somebody's file included, is not written to.
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL
# Of one system each.
_NEW |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def whole_file(path: pathlib.Path, several_writers: bool = False) -> Iterator[BinaryIO]:
    """An open file for bytes, which takes the place of `path` if the block ends without an error.

    The bytes and the name are on the disk when the block has ended; after an error, which names
    `path`, nothing is left of it. Where other processes may be writing `path` too
    (`several_writers`), each has a file of its own, and the last to end stays. A single writer has
    always the same one beside `path`, so that what one that was killed has left does not pile up.
    """
    own = f".{uuid.uuid4().hex}" if several_writers else ""
    unfinished = path.with_name(f"{path.name}{own}.unfinished")
    try:
        # What a writer that was killed has left; of a link, the link and not the file behind it.
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, _NEW, 0o666)
        try:
            with open(descriptor, "w+b") as file:
                yield file
                file.flush()
                # A new name may reach the disk before the bytes do.
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        # Not the system's, or about another file.
        if error.errno is None or str(error.filename or unfinished) != str(unfinished):
            raise
        reason = (
            f"Cannot write ({error.strerror}); what was there is as it was. Give a writable place "
            "with room for it"
        )
        raise OSError(error.errno, reason, os.fspath(path)) from error
    flush_names(path.parent)


def picture_path(name: str, value: Any) -> pathlib.Path:
    """`value` as the path of a picture, of a kind that Matplotlib can write."""
    from matplotlib.backend_bases import FigureCanvasBase

    path = arguments.path(name, value)
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in known:
        raise ValueError(
            f"`{name}` must end in the name of a format, one of {sorted(known)}. "
            f"Received: {name}={str(path)!r}"
        )
    return path


def save_figure(figure: Any, path: str | os.PathLike, **options: Any) -> None:
    """Save a Matplotlib figure as a whole file; the ending gives the format, PNG without one.

    The options are those of Matplotlib's `savefig`.
    """
    path = pathlib.Path(path)
    with whole_file(path, several_writers=True) as file:
        figure.savefig(file, format=path.suffix[1:] or "png", **options)


def flush_names(folder: pathlib.Path) -> None:
    """Have the names in a folder reach the disk, where folders can be opened for it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    # The new file is in its place; some file systems flush no folders.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
