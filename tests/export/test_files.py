"""An export is there as a whole or not at all."""

import errno
import gzip
import pathlib
import tempfile

import pytest

from tfbnn.export import files


def write(path, text="new", overwrite=False):
    with files.written_whole([path, path.with_name(f"{path.name}.json")], overwrite) as temporary:
        for part in temporary:
            part.write_text(text)


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_all_targets_appear_at_the_end(tmp_path):
    path = tmp_path / "new folder" / "m.tflite"
    write(path)
    assert contents(path.parent) == {"m.tflite": "new", "m.tflite.json": "new"}


@pytest.mark.parametrize("existing", ["m.tflite", "m.tflite.json"])
def test_existing_files_are_kept_unless_asked(existing, tmp_path):
    (tmp_path / existing).write_text("old")
    with pytest.raises(FileExistsError, match=f"{existing} exists and is not overwritten"):
        write(tmp_path / "m.tflite")
    assert contents(tmp_path) == {existing: "old"}
    write(tmp_path / "m.tflite", overwrite=True)
    assert contents(tmp_path) == {"m.tflite": "new", "m.tflite.json": "new"}


def test_a_folder_is_replaced_only_if_it_is_a_saved_model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds no SavedModel, and is not replaced even"):
        write(folder, overwrite=True)
    assert contents(folder) == {"thesis.tex": "years of work"}
    (folder / "saved_model.pb").write_text("")
    write(folder, overwrite=True)
    assert folder.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError("disagrees"), KeyboardInterrupt()])
def test_an_error_leaves_everything_as_it_was(error, tmp_path):
    (tmp_path / "m.tflite").write_text("old")
    with pytest.raises(type(error)):
        with files.written_whole([tmp_path / "m.tflite"], True) as (temporary,):
            temporary.write_text("half")
            raise error
    assert contents(tmp_path) == {"m.tflite": "old"}


def test_an_error_leaves_no_new_folder(tmp_path):
    path = tmp_path / "outer" / "inner" / "m.tflite"
    with pytest.raises(RuntimeError):
        with files.written_whole([path], False) as (temporary,):
            temporary.write_text("half")
            raise RuntimeError("disagrees")
    assert not list(tmp_path.iterdir())
    path.parent.mkdir(parents=True)
    with pytest.raises(RuntimeError):
        with files.written_whole([path], False):
            raise RuntimeError("disagrees")
    assert path.parent.is_dir()


def test_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with pytest.raises(OSError, match="Cannot write .*No space left on device.*nothing of it"):
        write(tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_read_only_folder(tmp_path, monkeypatch):
    # Not by the mode of the folder: tests may run as root, who can write everywhere.
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(OSError, match="Cannot write to the folder .*Permission denied"):
        write(tmp_path / "new" / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OSError, match="Cannot write to the folder .*out"):
        write(tmp_path / "out" / "m.tflite")


def test_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b").write_bytes(b"y" * 50)
    assert files.num_bytes(tmp_path) == 150
    assert files.num_bytes(tmp_path / "a") == 100
    assert files.num_gzip_bytes(tmp_path / "a") == len(gzip.compress(b"x" * 100, 9))
