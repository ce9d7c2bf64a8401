"""`.keras` files: is one whole, and what does it ask for that Keras does not know?

A `.keras` file is a ZIP archive, whose checksums tell a damaged file from one that only needs a
class of the user's. Keras looks at none of this before it builds the model, and says of a cut off
file that there is none.
"""

import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import keras

_CONFIG = "config.json"
# Keras stores without compression, and the best compressors find a thousandth. As in Keras.
_LARGEST_EXPANSION = 100
_SMALL = 2**20


def is_keras_file(path: Any) -> bool:
    """Whether a path is that of a file, and ends as the files that Keras writes."""
    named = isinstance(path, str | os.PathLike) and str(path).endswith(".keras")
    return named and os.path.isfile(path)


def whole_configuration(path: str | os.PathLike) -> Any:
    """The configuration in a `.keras` file whose members are all as they were written.

    A damaged file is a `ValueError`, one that cannot be opened an `OSError`.
    """
    file = open(path, "rb")
    try:
        with file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                _check_member(member)
            # Reads everything, and compares it with the checksums.
            different = archive.testzip()
            if different is not None:
                raise ValueError(f"the checksum of {different!r} is another one")
            json.loads(archive.read("metadata.json"))
            return json.loads(archive.read(_CONFIG))
    # Whatever a reader makes of bytes that were not written for it.
    except Exception as error:
        raise damaged(path, error) from error


def damaged(path: str | os.PathLike, error: Exception) -> ValueError:
    """The error that says that a file cannot be read, and why."""
    reason = (str(error).strip().splitlines() or [""])[0]
    return ValueError(
        f"{path} cannot be read as a model: it is damaged, or was written by other versions of the "
        f"classes in it ({type(error).__name__}: {reason})."
    )


def asks_for_code(config: Any, custom_objects: dict[str, Any] | None) -> bool:
    """Whether a configuration names code that Keras does not know, or holds some."""
    return any(not _is_known(item, custom_objects) for item in _objects(config))


def _check_member(member: zipfile.ZipInfo) -> None:
    parts = pathlib.PurePosixPath(member.filename.replace("\\", "/")).parts
    if ".." in parts or not parts or parts[0] == "/" or ":" in parts[0]:
        raise ValueError(f"the member {member.filename!r} would lie outside")
    if member.file_size > _SMALL + _LARGEST_EXPANSION * member.compress_size:
        raise ValueError(f"the member {member.filename!r} grows to {member.file_size} bytes")


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """All that is serialized in a configuration, however deep."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("class_name"), str):
                yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _is_known(item: dict[str, Any], custom_objects: dict[str, Any] | None) -> bool:
    module, name = item.get("module"), item["class_name"]
    if name == "__lambda__":
        return False
    registered = item.get("registered_name")
    # Names that nobody writes, and names of ours that are none, are damage. Of what stands in the
    # user's script Keras writes no module, and of functions that of the type.
    if module == "" or not all(isinstance(one, str | None) for one in (module, registered)):
        return True
    if name == "function":
        name = item.get("config")
    elif module is not None and module.split(".")[0] in ("keras", "builtins", "tfbnn"):
        return True
    names = (str(registered), str(name))
    found = (keras.saving.get_registered_object(one, custom_objects) for one in names)
    return any(one is not None for one in found)
