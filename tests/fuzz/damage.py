"""Damage: what disks, networks and people do to a file."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Damage = Callable[[np.random.Generator, bytes], bytes]
_GARBAGE = (b"", b"\0", b"{}", b"[]", b"null", b"PK\x03\x04", b"\x93NUMPY", b"\xff" * 64)


def damaged(random: np.random.Generator, content: bytes, others: list[bytes]) -> bytes:
    """The content of a file after one or more accidents.

    Args:
        random: Random numbers.
        content: The whole file.
        others: Contents of other files, which may take its place.
    """
    choice = random.random()
    if choice < 0.04:
        return others[random.integers(len(others))]
    if choice < 0.08:
        return _GARBAGE[random.integers(len(_GARBAGE))]
    for _ in range(1 if random.random() < 0.7 else random.integers(2, 6)):
        content = _ACCIDENTS[random.integers(len(_ACCIDENTS))](random, content)
    return content


def _truncated(random: np.random.Generator, content: bytes) -> bytes:
    return content[: random.integers(len(content) + 1)]


def _front_lost(random: np.random.Generator, content: bytes) -> bytes:
    return content[random.integers(len(content) + 1) :]


def _bit_flipped(random: np.random.Generator, content: bytes) -> bytes:
    if not content:
        return content
    array = bytearray(content)
    # Headers are at the start and, of zip files, at the end: they are met more often.
    size = len(array) if random.random() < 0.5 else min(len(array), 256)
    place = int(random.integers(size))
    place = place if random.random() < 0.7 else len(array) - 1 - place
    array[place] ^= 1 << random.integers(8)
    return bytes(array)


def _overwritten(random: np.random.Generator, content: bytes) -> bytes:
    start, length = int(random.integers(len(content) + 1)), int(random.integers(1, 65))
    filling = (bytes(length), b"\xff" * length, random.bytes(length))[random.integers(3)]
    return content[:start] + filling + content[start + length :]


def _numbers_changed(random: np.random.Generator, content: bytes) -> bytes:
    """A 32-bit number replaced: offsets and sizes of binary formats."""
    if len(content) < 8:
        return content
    start = 4 * int(random.integers(len(content) // 4 - 1))
    value = int(random.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, int(random.integers(2**32))]))
    return content[:start] + value.to_bytes(4, "little") + content[start + 4 :]


def _inserted(random: np.random.Generator, content: bytes) -> bytes:
    start = int(random.integers(len(content) + 1))
    return content[:start] + random.bytes(int(random.integers(1, 33))) + content[start:]


def _cut_out(random: np.random.Generator, content: bytes) -> bytes:
    start, length = int(random.integers(len(content) + 1)), int(random.integers(1, 200))
    return content[:start] + content[start + length :]


def _swapped(random: np.random.Generator, content: bytes) -> bytes:
    a, b, c, d = sorted(random.integers(len(content) + 1, size=4).tolist())
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _doubled(random: np.random.Generator, content: bytes) -> bytes:
    return content + content[random.integers(len(content) + 1) :]


def _lines_ends(random: np.random.Generator, content: bytes) -> bytes:
    """What a transfer as text does."""
    del random
    return content.replace(b"\n", b"\r\n")


_ACCIDENTS: tuple[Damage, ...] = (
    _truncated,
    _bit_flipped,
    _bit_flipped,
    _bit_flipped,
    _overwritten,
    _numbers_changed,
    _numbers_changed,
    _front_lost,
    _inserted,
    _cut_out,
    _swapped,
    _doubled,
    _lines_ends,
)


def damaged_json(random: np.random.Generator, content: bytes) -> bytes:
    """JSON that is still JSON, with something in it that nobody expects."""
    value = json.loads(content)
    for _ in range(1 if random.random() < 0.7 else random.integers(2, 5)):
        value = _changed(random, value)
    text = json.dumps(value)
    if random.random() < 0.05:
        depth = int(random.choice([100, 2000, 100_000]))
        text = f'{{"a": {"[" * depth}{"]" * depth}, {text.lstrip("{")}'
    return text.encode()


def _changed(random: np.random.Generator, value: Any) -> Any:
    """One place of a structure removed or replaced."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = list(value)[random.integers(len(value))]
        if random.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        if random.random() < 0.05:
            return {**value, f"{key}_": value[key]}
        return {**value, key: _changed(random, value[key])}
    if isinstance(value, list) and value and random.random() < 0.9:
        place = int(random.integers(len(value)))
        if random.random() < 0.15:
            return value[:place] + value[place + 1 :]
        return [*value[:place], _changed(random, value[place]), *value[place + 1 :]]
    return _STRANGE[random.integers(len(_STRANGE))]


_STRANGE = (
    *(None, True, False, 0, -1, 1, 0.5, -3, 10**30, 1e308, float("nan"), float("inf")),
    *("", "a", "../../x", "\0", "relu", "tfbnn", "x" * 10_000, [], {}, [[]], {"a": {}}, [1, "a"]),
)


def damaged_archive(random: np.random.Generator, content: bytes) -> bytes:
    """A zip file that is whole again after one of its members was changed, lost or added."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[random.integers(len(members))]
    choice = random.random()
    if choice < 0.12:
        del members[name]
    elif choice < 0.18:
        members["extra"] = random.bytes(10)
    elif name.endswith(".json") and choice < 0.9:
        members[name] = damaged_json(random, members[name])
    elif name.endswith(".npy") and choice < 0.9:
        members[name] = _damaged_array(random, members[name])
    else:
        members[name] = damaged(random, members[name], list(members.values()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return buffer.getvalue()


def _damaged_array(random: np.random.Generator, content: bytes) -> bytes:
    """Another array: another shape or type, or numbers that nobody expects."""
    array = np.load(io.BytesIO(content))
    number = float(random.choice([np.nan, np.inf, -1, 1e30, 0]))
    with np.errstate(all="ignore"):
        changed = (
            lambda: array.astype(
                str(random.choice(["float16", "int8", "complex64", "U3", "bool"]))
            ),
            lambda: array.reshape(-1)[: array.size // 2],
            lambda: array[np.newaxis],
            lambda: np.full(array.shape, number).astype(array.dtype),
            lambda: np.zeros((0,), array.dtype),
            lambda: np.full(array.shape, "a"),
        )[random.integers(6)]()
    buffer = io.BytesIO()
    np.save(buffer, changed)
    return buffer.getvalue()
