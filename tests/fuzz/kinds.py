"""The kinds of cases, and what comes of a case.

This file and those that run cases import no TensorFlow: only the processes that work on a case do.
"""

import dataclasses
import importlib
import zlib
from typing import Any

import numpy as np

PASSED = "passed"  # answers were given, and they are right
REFUSED = "refused"  # a clear error
UNSEEN = "unseen"  # other answers from a changed file that carries no checksum
UNPROTECTED = "unprotected"  # the runtime crashed or hung on a file without a manifest
FAILED = "failed"  # an unclear error, a wrong answer, something lost
CRASHED = "crashed"  # the process died
HUNG = "hung"  # no answer in time
OUTCOMES = (PASSED, REFUSED, UNSEEN, UNPROTECTED, FAILED, CRASHED, HUNG)
FAILURES = (FAILED, CRASHED, HUNG)


@dataclasses.dataclass
class Result:
    """What came of one case.

    Attributes:
        outcome: One of `OUTCOMES`.
        what: Which part of its kind the case belongs to.
        detail: What went wrong, with the traceback; empty if nothing did.
        counts: How often each thing inside the case was done, or refused, and with which words.
    """

    outcome: str
    what: str = ""
    detail: str = ""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of case.

    Its module has `run(seed, folder, prepared) -> Result`; `folder` is the case's own, `prepared`
    belongs to all cases of the kind, see `made.py`.

    Attributes:
        module: Name of the module, in this package.
        share: Share of the time of a run, beside the other kinds.
        cases_per_process: Number of cases after which a new process is taken.
        seconds: Time limit of a case.
        parts: What the cases of consecutive seeds are about, in turn; the module may say so too.
        unprotected: Parts in which a crash is known of, and counted apart.
    """

    module: str
    share: float
    cases_per_process: int
    seconds: float
    parts: tuple[str, ...] = ("",)
    unprotected: tuple[str, ...] = ()

    def part(self, seed: int) -> str:
        """The part that the case of a seed belongs to."""
        return self.parts[seed % len(self.parts)]

    def load(self) -> Any:
        """The module; this imports TensorFlow."""
        return importlib.import_module(f"tests.fuzz.{self.module}")


KINDS = {
    "networks": Kind("networks", share=6, cases_per_process=20, seconds=600),
    "files": Kind(
        "files",
        share=2,
        cases_per_process=400,
        seconds=300,
        # What takes longest to read comes once in a turn.
        parts=(
            *("tflite", "manifest", "tflite and manifest", "tflite alone") * 4,
            *("tflite", "keras", "keras", "keras contents", "keras contents", "search"),
            *("sigma.csv", "state", "state contents"),
        ),
        unprotected=("tflite alone",),
    ),
    "arguments": Kind("arguments", share=1, cases_per_process=200, seconds=60),
    "kills": Kind(
        "kills",
        share=2,
        cases_per_process=10,
        seconds=600,
        parts=(
            *("fit", "tflite over an old one", "tflite"),
            *("fit", "c over an old one", "c"),
            *("fit", "saved_model over an old one", "saved_model", "search"),
        ),
    ),
}


def generator(kind: str, seed: int) -> np.random.Generator:
    """The random numbers of a case."""
    return np.random.default_rng([zlib.crc32(kind.encode()), seed])
