"""Folders of a search: are they whole, and what did an interruption leave half done?

A folder of keras-tuner holds `oracle.json`, the state of the search; `tuner0.json` (`chief.json`),
which says that there is something to reload; and `trial_<id>/trial.json` with the weights beside.
"""

import json
import os
import pathlib
from typing import Any

from keras_tuner import Oracle
from keras_tuner.engine.trial import Trial, TrialStatus

from tfbnn.whole_files import whole_file

_ENDED = (TrialStatus.COMPLETED, TrialStatus.FAILED)


def check_folder(folder: pathlib.Path) -> bool:
    """Whether there is a search in a folder, which need not exist.

    Raises:
        ValueError: If a file is damaged or missing, so that it cannot be continued; it is named.
        NotADirectoryError: If it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, where the folder of a search is to be.")
    states = sorted(folder.glob("*.json"))
    trials = sorted(folder.glob("trial_*/trial.json"))
    if not states and not trials:
        return False
    oracle = folder / "oracle.json"
    if not oracle.exists():
        raise ValueError(f"{oracle} is missing, so this search cannot be continued: {_ADVICE}")
    for path in states:
        if not isinstance(_read(path), dict):
            raise _damaged(path, "no JSON object")
    for path in trials:
        _check_trial(path)
    _mark_as_begun(folder)
    return True


def settle_interrupted(oracle: Oracle) -> None:
    """Put right what a search that was killed left half done, in the oracle of a new tuner.

    Trials that had ended stay as they are, although keras-tuner notes the last one as running.
    All others are run again, from their start: scores of an attempt that did not end are dropped,
    since keras-tuner would keep them in place of new ones.

    Raises:
        TypeError: If it was made of a state that keras-tuner would not have written.
        KeyError: If that names a trial that there is not.
    """
    _check_oracle(oracle)
    queue = [name for name in oracle._retry_queue if oracle.trials[name].status not in _ENDED]
    for name, trial in oracle.trials.items():
        # Killed after the trial was written and before the oracle was.
        if name not in oracle.start_order:
            oracle.start_order.append(name)
        if trial.status in _ENDED and name not in oracle.end_order:
            oracle.end_order.append(name)
        if trial.status == TrialStatus.RUNNING and name not in queue:
            queue.append(name)
    for name in queue:
        oracle.trials[name].metrics = type(oracle.trials[name].metrics)()
    oracle._retry_queue = queue


def _check_oracle(oracle: Oracle) -> None:
    """Raise an error about what keras-tuner takes from a state without a look."""
    for names in (oracle.start_order, oracle.end_order, oracle._retry_queue):
        if not isinstance(names, list):
            raise TypeError(f"{names!r} is no list of trials")
        for name in names:
            if not isinstance(name, str) or name not in oracle.trials:
                raise KeyError(name)
    numbers = [oracle._seed_state, *oracle._run_times.values()]
    strange = [one for one in numbers if not isinstance(one, int) or isinstance(one, bool)]
    # A search of one's own may have no seed.
    if strange or not isinstance(oracle.seed, int | None):
        raise TypeError(f"{[*strange, oracle.seed][0]!r} is no whole number")
    hashes = [*oracle._tried_so_far, *oracle._id_to_hash.values()]
    if not all(isinstance(one, str | None) for one in hashes):
        raise TypeError(f"{hashes!r} are no hashes of trials")


def write_whole(oracle: Oracle) -> None:
    """Have the files of a search appear whole or not at all, also on a full disk.

    keras-tuner writes over the old ones: without room for `oracle.json`, or killed while it is
    written, a search would lose all of its trials.
    """

    def save_trial(trial: Trial) -> None:
        folder = pathlib.Path(oracle._get_trial_dir(trial.trial_id))
        _write(trial.get_state(), folder / "trial.json")

    oracle.save = lambda: _write(oracle.get_state(), pathlib.Path(oracle._get_oracle_fname()))
    oracle._save_trial = save_trial


_ADVICE = "choose another folder, or remove this one to start again."


def _check_trial(path: pathlib.Path) -> None:
    state = _read(path)
    try:
        name = Trial.from_state(state).trial_id
    # Whatever keras-tuner makes of a state that is none of its own.
    except Exception as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    # keras-tuner writes to the folder of this name, wherever it may lead.
    if not isinstance(name, str) or path.parent.name != f"trial_{name}":
        raise _damaged(path, f"trial_id={name!r} in the folder {path.parent.name!r}")


def _mark_as_begun(folder: pathlib.Path) -> None:
    """keras-tuner reloads a search only if this process' own file is there.

    It writes that file after the first trial, and under another name for a chief: a search would
    start again, and overwrite the trials it has.
    """
    name = os.environ.get("KERASTUNER_TUNER_ID", "tuner0")
    own = folder / f"{name}.json"
    if not own.exists():
        _write({}, own)


def _read(path: pathlib.Path) -> object:
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = f"Cannot read ({error.strerror}): {_ADVICE[:-1]}"
        raise OSError(error.errno, reason, str(path)) from error
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error


def _write(state: dict[str, Any], path: pathlib.Path) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(state).encode())


def _damaged(path: pathlib.Path, reason: str) -> ValueError:
    return ValueError(f"{path} is damaged: {_ADVICE} Received: {reason}")
