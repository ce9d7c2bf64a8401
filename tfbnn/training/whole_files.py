"""Whole files: a reader finds the old file or the new one, whenever the writer is killed."""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def whole_file(path: pathlib.Path, several_writers: bool = False) -> Iterator[pathlib.Path]:
    """A path to write to, which takes the place of `path` if the block ends without an error.

    Args:
        path: The file to write, in a folder that exists.
        several_writers: Whether other processes may be writing it too: each then has a path of its
            own, and the last to end stays. A single writer has always the same path, so that what
            one that was killed has left does not pile up.

    Yields:
        A path beside `path`; after an error nothing is left there.

    Example:

    >>> import pathlib, tempfile
    >>> from tfbnn.training.whole_files import whole_file
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.json"
    >>> with whole_file(path) as unfinished:
    ...     _ = unfinished.write_text("{}")
    >>> path.read_text(), unfinished.exists()
    ('{}', False)
    """
    own = f".{uuid.uuid4().hex}" if several_writers else ""
    unfinished = path.with_suffix(f"{own}.unfinished")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            # A new name may reach the disk before the bytes do.
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
