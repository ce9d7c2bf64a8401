import contextlib
import json
import shutil
import time

import pytest
from keras_tuner.engine.trial import TrialStatus

from tfbnn import search
from tfbnn.search import folders

PATIENCE = 90


@pytest.fixture(scope="module")
def whole(small_search, tmp_path_factory):
    """A finished search: its folder and its trials."""
    folder = tmp_path_factory.mktemp("search") / "whole"
    return folder, search.trials(small_search.run(small_search.opened(folder)))


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole[0], tmp_path / "copy")


def _wait_for(path, process):
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.is_alive(), f"ended early: {process.log.read_text()}"
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.1)


def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(
    small_search, whole, start, tmp_path
):
    folder = tmp_path / "killed"
    # The second process goes on where the first was killed, and is killed in its turn.
    for held in ("0", "1"):
        process = start(folder, held)
        _wait_for(folder.with_suffix(".held"), process)
        process.kill()
        process.join()
        folder.with_suffix(".held").unlink()
        trials = {p.parent.name: p.read_bytes() for p in folder.glob("trial_*/trial.json")}
        assert json.loads(trials[f"trial_{held}"])["status"] == TrialStatus.RUNNING
        # The search begins with all but the finished trials.
        tuner = small_search.opened(folder)
        assert tuner.oracle._retry_queue == [held]
        assert tuner.remaining_trials == small_search.TRIALS - 1 - int(held)
    rows = search.trials(small_search.run(tuner))
    for row, expected in zip(rows, whole[1], strict=True):
        assert row["status"] == TrialStatus.COMPLETED
        assert row["hyperparameters"] == expected["hyperparameters"]
        assert row["score"] == pytest.approx(expected["score"], rel=1e-5)
    assert (folder / "trial_0" / "trial.json").read_bytes() == trials["trial_0"]


def test_a_finished_search_runs_nothing_again(small_search, whole, copy):
    times = {path: path.stat().st_mtime_ns for path in copy.glob("trial_*/*")}
    rows = search.trials(small_search.run(small_search.opened(copy)))
    assert rows == whole[1]
    assert {path: path.stat().st_mtime_ns for path in copy.glob("trial_*/*")} == times


def test_killed_between_its_two_writes_a_finished_trial_stays_finished(small_search, whole, copy):
    # So keras-tuner writes it: the trial has ended and is still among the running ones.
    state = json.loads((copy / "oracle.json").read_text())
    state["ongoing_trials"] = {"tuner0": "2"}
    state["end_order"].remove("2")
    (copy / "oracle.json").write_text(json.dumps(state))
    tuner = small_search.opened(copy)
    assert tuner.oracle._retry_queue == []
    assert tuner.oracle.end_order == ["0", "1", "2"]
    assert search.trials(tuner) == whole[1]


def test_killed_after_its_score_a_trial_is_scored_anew(small_search, whole, copy):
    path = copy / "trial_2" / "trial.json"
    trial = json.loads(path.read_text())
    trial["status"] = TrialStatus.RUNNING
    trial["metrics"]["metrics"]["validation_nll"]["observations"][0]["value"] = [99.0]
    path.write_text(json.dumps(trial))
    rows = search.trials(small_search.run(small_search.opened(copy)))
    assert rows[2]["score"] == pytest.approx(whole[1][2]["score"], rel=1e-5)


def test_a_full_disk_costs_no_finished_trial(small_search, whole, tmp_path, monkeypatch, full_disk):
    folder = tmp_path / "full"
    tuner = small_search.opened(folder)
    write = folders._write

    def write_half(state, path):
        full = path.name == "oracle.json" and state["end_order"] == ["0", "1"]
        with full_disk(len(json.dumps(state)) // 2) if full else contextlib.nullcontext():
            write(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "_write", write_half)
        with pytest.raises(OSError, match="Cannot write .*full/oracle.json'"):
            small_search.run(tuner)
    tuner = small_search.opened(folder)
    rows = search.trials(tuner)
    finished = [row["score"] for row in whole[1][:2]]
    assert [row["score"] for row in rows] == pytest.approx(finished, rel=1e-5)
    assert tuner.oracle._retry_queue == []
    rows = search.trials(small_search.run(tuner))
    expected = [row["score"] for row in whole[1]]
    assert [row["score"] for row in rows] == pytest.approx(expected, rel=1e-5)


def test_a_chief_continues_what_one_process_began(small_search, whole, copy, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    assert search.trials(small_search.opened(copy)) == whole[1]


@pytest.mark.parametrize("name", ["oracle.json", "tuner0.json", "trial_1/trial.json"])
@pytest.mark.parametrize("content", [b"half", b"[]", b"\x00\xff", b"[" * 200_000, b"3", b""])
def test_a_damaged_file_is_an_error_that_names_it(name, content, small_search, copy):
    path = copy / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"{" if content == b"half" else content)
    with pytest.raises(ValueError, match=f"{path} is damaged: choose another folder, or remove"):
        small_search.opened(copy)


@pytest.mark.parametrize("name", ["oracle.json", "tuner0.json", "trial_1/trial.json"])
def test_what_cannot_be_read_is_an_error_that_names_it(name, small_search, copy):
    (copy / name).unlink()
    (copy / name).mkdir()
    with pytest.raises(IsADirectoryError, match=f"Cannot read .*remove this one.*{copy / name}'"):
        small_search.opened(copy)


@pytest.mark.parametrize("name", ["/../../elsewhere", "7", 1, None])
def test_a_trial_of_another_name_than_its_folder_is_an_error(name, small_search, copy):
    # keras-tuner would write wherever the name leads to.
    path = copy / "trial_1" / "trial.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "trial_id": name}))
    with pytest.raises(ValueError, match=f"{path} is damaged.*trial_id="):
        small_search.opened(copy)
    assert not (copy.parent / "elsewhere").exists()


@pytest.mark.parametrize("content", ["{}", '{"hyperparameters": {"space": [{"class_name": 3}]}}'])
def test_a_state_without_its_keys_is_an_error_that_names_it(content, small_search, copy):
    (copy / "oracle.json").write_text(content)
    with pytest.raises(ValueError, match=f"{copy}/oracle.json is damaged, or was written by"):
        small_search.opened(copy)


_ORDERS = ("start_order", "end_order", "retry_queue")
_NO_ORDERS = ("", True, 3, None, {}, ["of no trial"], [3], [["list"]], [None])


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key in _ORDERS for value in _NO_ORDERS]
    + [(key, value) for key in ("seed", "seed_state") for value in ("x", 0.5, [])]
    + [("seed_state", None), ("run_times", {"0": "x"}), ("run_times", [3])]
    + [("tried_so_far", [3]), ("tried_so_far", None), ("id_to_hash", {"0": 3})]
    + [("ongoing_trials", {"tuner0": "of no trial"}), ("ongoing_trials", None)]
    + [("hyperparameters", 3), ("display", None)],
)
def test_a_state_with_other_values_is_an_error_that_names_it(key, value, small_search, copy):
    state = json.loads((copy / "oracle.json").read_text())
    (copy / "oracle.json").write_text(json.dumps({**state, key: value}))
    with pytest.raises(ValueError, match=f"{copy}/oracle.json is damaged, or was written by"):
        small_search.opened(copy)


def test_a_missing_state_is_an_error(small_search, copy):
    (copy / "oracle.json").unlink()
    with pytest.raises(ValueError, match=f"{copy}/oracle.json is missing"):
        small_search.opened(copy)


def test_another_kind_of_tuner_is_an_error(small_search, copy):
    with pytest.raises(ValueError, match="written by another tuner than 'hyperband'"):
        small_search.opened(copy, "hyperband", max_epochs=2)


def test_a_file_in_place_of_the_folder_is_an_error(small_search, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file, where the folder"):
        small_search.opened(tmp_path / "file")


def test_overwrite_begins_again(small_search, copy):
    (copy / "oracle.json").write_text("damaged")
    tuner = small_search.opened(copy, overwrite=True)
    assert tuner.remaining_trials == small_search.TRIALS
    assert search.trials(tuner) == []
