"""`open_tuner`: a keras-tuner tuner on a folder, new or continued."""

import os
from typing import Any

import keras_tuner

from tfbnn import arguments
from tfbnn.search.folders import check_folder, settle_interrupted, write_whole
from tfbnn.search.hypermodel import BayesianHyperModel

TUNERS: dict[str, type[keras_tuner.Tuner]] = {
    "random": keras_tuner.RandomSearch,
    "bayesian": keras_tuner.BayesianOptimization,
    "hyperband": keras_tuner.Hyperband,
}
"""The tuners `open_tuner` knows by name."""

# keras-tuner's own limit, 3, ends a search in a space of which a corner diverges.
_CONSECUTIVE_FAILURES = 10


def open_tuner(
    tuner: str, hypermodel: BayesianHyperModel, folder: str | os.PathLike, **options: Any
) -> keras_tuner.Tuner:
    """A tuner that keeps its search in a folder, and continues the one it finds there.

    keras-tuner's classes can be used without this function. It adds that a damaged folder is an
    error which names the file; that a search which was killed, or whose disk was full, loses none
    of its finished trials, also when it goes on with a chief and workers; that the trial it was
    killed in is run again, from its start; and that ten failed trials in a row end a search, not
    three.

    In keras-tuner's distributed mode, every process runs the same program and opens the same
    folder; see its variables `KERASTUNER_TUNER_ID`, `KERASTUNER_ORACLE_IP` and
    `KERASTUNER_ORACLE_PORT`.

    Args:
        tuner: `"random"`, `"bayesian"` or `"hyperband"`.
        hypermodel: What is searched.
        folder: Where the search is kept; made if it is missing.
        **options: Arguments of keras-tuner's class: `max_trials` (for Hyperband `max_epochs`,
            `factor`), `seed` (0 counts as none), `num_initial_points`, `executions_per_trial`, ...
            With `overwrite=True` a search in the folder is deleted.

    Returns:
        The tuner, for `tuner.search(x, y, validation_data=(x, y), epochs=...)`.

    Raises:
        ValueError: If the name is unknown, or the folder holds a damaged search or one of another
            kind of tuner.

    Example:

    >>> import tempfile
    >>> from tfbnn import search
    >>> hypermodel = search.BayesianHyperModel((3,), outputs=2)
    >>> tuner = search.open_tuner("random", hypermodel, tempfile.mkdtemp(), max_trials=3)
    >>> tuner.remaining_trials
    3
    """
    arguments.one_of("tuner", tuner, tuple(TUNERS))
    arguments.instance("hypermodel", hypermodel, BayesianHyperModel, "a `BayesianHyperModel`")
    folder = arguments.path("folder", folder)
    options = {
        "objective": hypermodel.tuner_objective,
        "max_consecutive_failed_trials": _CONSECUTIVE_FAILURES,
        **options,
    }
    # A worker reloads nothing, and would read what the chief is just writing.
    found = not (options.get("overwrite") or _is_worker()) and check_folder(folder)
    place = {"directory": str(folder.parent), "project_name": folder.name}
    try:
        opened = TUNERS[tuner](hypermodel, **place, **options)
        if not _is_worker():
            settle_interrupted(opened.oracle)
            write_whole(opened.oracle)
    # Whatever keras-tuner makes of a state that is none of this tuner's.
    except Exception as error:
        if not found:
            raise
        raise ValueError(
            f"{folder / 'oracle.json'} is damaged, or was written by another tuner than {tuner!r}: "
            "choose another folder, or remove this one. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    return opened


def _is_worker() -> bool:
    """Whether the oracle is in another process, the chief; keras-tuner's own rule."""
    shared = "KERASTUNER_ORACLE_IP" in os.environ
    return shared and "chief" not in os.environ.get("KERASTUNER_TUNER_ID", "")
