"""Checks: what one case has tried, what was refused, and what went wrong."""

import collections
import contextlib
import pathlib
import re
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np

import tfbnn
from tests.fuzz.kinds import FAILED, PASSED, Result

_PACKAGE = str(pathlib.Path(tfbnn.__file__).parent)


class Coarse(Exception):
    """An export found by itself that it is too coarse, and has written nothing."""


class Checks:
    """Collects what a case does."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    @contextlib.contextmanager
    def part(self, name: str, may_refuse: bool = False) -> Iterator[None]:
        """A part of a case. Errors end the part, not the case.

        Args:
            name: What is done.
            may_refuse: Whether a clear error is an answer; where it must work, it is a failure.
        """
        try:
            yield
        except Coarse:
            self.counts[f"{name}: too coarse for this network, nothing written"] += 1
        except Exception as error:
            if may_refuse and is_clear(error):
                self.counts[f"{name}: refused: {in_short(error)}"] += 1
            else:
                self.counts[f"{name}: failed"] += 1
                self.failures.append(f"{name}: {traceback.format_exc()}")
        else:
            self.counts[name] += 1

    def result(self, what: str, description: str) -> Result:
        """What came of the case."""
        detail = "\n".join(self.failures)
        return Result(
            FAILED if self.failures else PASSED,
            what,
            f"{description}\n{detail}" if detail else "",
            dict(self.counts),
        )


def is_clear(error: Exception) -> bool:
    """Whether the package itself raised the error, in its form."""
    if not isinstance(error, ValueError | TypeError | FileExistsError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename.startswith(_PACKAGE) and "Received:" in str(error)


def in_short(error: Exception) -> str:
    """The first sentence of a message, without what differs from case to case."""
    text = str(error).replace("\n", " ").replace("|", "/")
    text = re.sub(r"'[^']*'", "'...'", text)
    text = re.sub(r"-?\d[\d.,e+-]*", "#", text)
    return text.split(". ")[0][:110]


def close(name: str, found: Any, expected: Any, tolerance: float) -> None:
    """Raise an error unless two arrays are finite and the same up to `tolerance`.

    Args:
        name: What they are.
        found: The package's.
        expected: Ours.
        tolerance: Relative to the largest expected number, if that is above 1.
    """
    found, expected = (np.asarray(a).astype(np.float64) for a in (found, expected))
    if found.shape != expected.shape:
        raise AssertionError(f"{name}: shape {found.shape} in place of {expected.shape}")
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        raise AssertionError(f"{name} is not finite: {found.ravel()[:8]}, {expected.ravel()[:8]}")
    size = max(1.0, float(np.max(np.abs(expected), initial=0)))
    error = float(np.max(np.abs(found - expected), initial=0)) / size
    if not error <= tolerance:
        raise AssertionError(
            f"{name} differs by {error:.3g} (tolerance {tolerance:.3g}): "
            f"{found.ravel()[:8]} in place of {expected.ravel()[:8]}"
        )


def same(name: str, found: Any, expected: Any) -> None:
    """Raise an error unless two arrays are equal, bit for bit."""
    found, expected = np.asarray(found), np.asarray(expected)
    if not np.array_equal(found, expected, equal_nan=False):
        where = found.shape == expected.shape and np.abs(found - expected).max()
        raise AssertionError(f"{name} is not the same: {found.shape}, off by {where}")
