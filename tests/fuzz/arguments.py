"""Bad arguments: one of a right call is exchanged for a value that it may not be.

A call must do one of two things. It refuses the value before it has done anything, with an error in
the package's form; or it takes it, and what it made of it can be used. `values.py` says which of
the two for values where it is known.
"""

import collections
import contextlib
import dataclasses
import functools
import os
import pathlib
import tempfile
import traceback
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tests.fuzz.callables import Entry, World, table, world
from tests.fuzz.values import VALUES


@dataclasses.dataclass(frozen=True)
class Try:
    """One argument of one callable, and the number of a value in `VALUES`."""

    entry: Entry
    argument: str
    number: int

    @property
    def name(self) -> str:
        """`tfbnn.predict(num_samples=-1)`."""
        value = " ".join(repr(VALUES[self.number]()).split())
        return f"{self.entry.name}({self.argument}={value[:80]})"

    def attempt(self) -> str:
        """`"accepted"` or `"refused"`; an `AssertionError` says what is wrong with it."""
        value = VALUES[self.number]()
        fits = self.entry.kinds[self.argument].fits(value)
        before = self.entry.state()
        try:
            result = self.entry.call(**{**self.entry.right(), self.argument: value})
        except Exception as error:
            problem = is_clear(error, self.argument, *self.entry.aliases, value=value)
            assert not problem, f"{self.name}: {problem}: {_last_lines(error)}"
            assert fits is not True, f"{self.name}: refused: {error}"
            assert self.entry.state() == before, f"{self.name}: refused, after a change"
            return "refused"
        assert fits is not False, f"{self.name}: accepted in silence"
        if self.argument in self.entry.of_keras:
            return "accepted"
        try:
            self.entry.after(result)
        except Exception as error:
            raise AssertionError(
                f"{self.name}: accepted, and then: {_last_lines(error)}"
            ) from error
        return "accepted"


def is_clear(error: Exception, *names: str, value: Any = None) -> str:
    """Why the error is not in the package's form; nothing if it is.

    Args:
        error: What the call raised.
        *names: What the argument that was wrong may be called.
        value: What it was: of a file that cannot be, its name is enough.
    """
    message = str(error)
    if isinstance(error, OSError):
        return "" if str(value) in message else "no file named"
    if type(error) not in (ValueError, TypeError):
        return f"it is a {type(error).__name__}"
    if "Received" not in message:
        return "it does not say what it received"
    return "" if any(name in message for name in names) else f"it does not name `{names[0]}`"


def tries() -> list[Try]:
    """All that can be tried, in a fixed order; of slow calls only what has to be refused."""
    return list(_tries(world()))


def sample(seed: int, count: int) -> list[Try]:
    """Some of them, another callable and argument each time as far as there are any."""
    generator = np.random.default_rng(seed)
    groups = collections.defaultdict(list)
    for one in tries():
        groups[one.entry.name, one.argument].append(one)
    order = [list(groups)[i] for i in generator.permutation(len(groups))]
    chosen = (order[i % len(order)] for i in range(count))
    return [groups[key][generator.integers(len(groups[key]))] for key in chosen]


def run(seed: int, folder: pathlib.Path, prepared: pathlib.Path) -> Any:
    """The case `seed` of `python -m tests.fuzz`: one value of one argument."""
    del prepared
    from tests.fuzz.kinds import FAILED, PASSED, REFUSED, Result

    with _temporary_files_in(folder.parent):
        everything = tries()
    # A step that has no factor in common with the number of tries: neighbours differ in all.
    one = everything[seed * 7919 % len(everything)]
    os.chdir(folder)
    # Constraints and seeds of a case are its own.
    keras.utils.set_random_seed(seed)
    try:
        outcome = {"accepted": PASSED, "refused": REFUSED}[one.attempt()]
    except AssertionError:
        return Result(FAILED, one.entry.name, f"{one.name}\n{traceback.format_exc()}")
    return Result(outcome, one.entry.name)


@contextlib.contextmanager
def _temporary_files_in(folder: pathlib.Path) -> Iterator[None]:
    """What all cases share outlives the one that makes it."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@functools.cache
def made_values() -> list[Any]:
    """One of each, to look at."""
    return [make() for make in VALUES]


def _tries(made: World) -> Iterator[Try]:
    for entry in table(made):
        for argument, kind in entry.kinds.items():
            for number, value in enumerate(made_values()):
                if not entry.slow or kind.fits(value) is False:
                    yield Try(entry, argument, number)


def _last_lines(error: Exception) -> str:
    return "".join(traceback.format_exception(error, limit=-2))[-1500:]
