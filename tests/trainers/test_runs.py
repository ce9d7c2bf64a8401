import errno
import json
import os
import pathlib
import tempfile

import pytest

from trainers import runs


def test_a_run_appears_when_it_is_complete(tmp_path):
    with runs.run_folder(tmp_path / "new", "run") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "new" / "run").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run"]
    assert (tmp_path / "new" / "run" / "a").read_text() == "1"


def test_an_existing_run_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("kept")
    with pytest.raises(FileExistsError, match="run exists and a run is never overwritten"):
        with runs.run_folder(tmp_path, "run"):
            pytest.fail("the work was started")
    assert (tmp_path / "run" / "mine").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_made_meanwhile_is_not_overwritten(tmp_path):
    with pytest.raises(FileExistsError) as raised:
        with runs.run_folder(tmp_path, "run") as folder:
            (folder / "model.keras").write_text("trained")
            (tmp_path / "run").mkdir()
    assert raised.value.__notes__ == [f"What was written so far is in {folder}"]
    assert (folder / "model.keras").exists()


@pytest.mark.parametrize(("file", "kept"), [("model.keras", True), ("sigma.csv", False)])
def test_after_an_error_a_trained_model_is_kept_and_nothing_looks_complete(tmp_path, file, kept):
    with pytest.raises(KeyboardInterrupt):
        with runs.run_folder(tmp_path, "run") as folder:
            (folder / file).write_text("x")
            raise KeyboardInterrupt
    assert not (tmp_path / "run").exists()
    assert folder.exists() is kept


def test_an_output_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"Cannot write a run to {tmp_path}/file: .* --output"):
        with runs.run_folder(tmp_path / "file", "run"):
            pytest.fail("the work was started")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_read_only_output_folder_is_an_error(tmp_path, monkeypatch, code):
    # Permissions do not bind root, who runs many containers.
    monkeypatch.setattr(tempfile, "mkdtemp", _failing(code))
    with pytest.raises(OSError, match=f"Cannot write a run to {tmp_path}: .*writable folder"):
        with runs.run_folder(tmp_path, "run"):
            pytest.fail("the work was started")


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "write_bytes", _failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left on device.*64 MB of room as --output"):
        with runs.run_folder(tmp_path, "run"):
            pytest.fail("the work was started")
    assert list(tmp_path.iterdir()) == []


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "table.json"
    runs.write_json([1], path)
    assert json.loads(path.read_text()) == [1]
    with pytest.raises(TypeError):
        runs.write_json([object()], path)
    assert json.loads(path.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_json_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "metrics.json"
    runs.write_json({"a": 1}, path)
    assert runs.read_json(path) == {"a": 1}
    path.write_text('{"a"')
    with pytest.raises(ValueError, match=f"{path} is damaged: choose another --name, or remove"):
        runs.read_json(path)


def test_a_file_that_cannot_be_written_is_found_early(tmp_path):
    runs.check_writable(tmp_path / "table.json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="Cannot write .*No such file or directory"):
        runs.check_writable(tmp_path / "no" / "table.json")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        runs.check_writable(tmp_path)


def _failing(code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return fail
