"""An export is there as a whole or not at all."""

import errno
import gzip
import os
import pathlib
import subprocess
import time

import pytest

from tests.export import kills
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
    with pytest.raises(OSError, match="Cannot write .*No space left on device.*nothing") as caught:
        write(tmp_path / "m.tflite")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_on_the_way_to_its_place(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", source, None, target)

    monkeypatch.setattr(files.os, "rename", full)
    with pytest.raises(OSError, match="Cannot write .*No space left.*nothing of it was kept"):
        write(tmp_path / "m.tflite")


def test_an_error_that_names_no_path_is_about_the_file(tmp_path):
    with pytest.raises(OSError, match="Cannot write .*No space left.*m.tflite") as caught:
        with files.written_whole([tmp_path / "m.tflite"], False):
            raise OSError(errno.ENOSPC, "No space left on device", 7)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "error",
    [OSError("no system said so"), FileNotFoundError(errno.ENOENT, "No such file", "elsewhere.py")],
)
def test_an_error_about_something_else_is_not_about_the_file(error, tmp_path):
    with pytest.raises(OSError) as caught:
        with files.written_whole([tmp_path / "m.tflite"], False):
            raise error
    assert caught.value is error
    assert not list(tmp_path.iterdir())


def test_read_only_folder(tmp_path, monkeypatch):
    # Not by the mode of the folder: tests may run as root, who can write everywhere.
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files, "_locked", refuse)
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


# Kills.


def expected(kind, text):
    parts = {"m": ("m/saved_model.pb", "m/variables/data")}
    names = [part for name in kills.SETS[kind] for part in parts.get(name, (name,))]
    return dict.fromkeys(sorted(names), text)


def seen(folder):
    """What a user sees: no hidden files."""
    return {n: t for n, t in kills.contents(folder).items() if not n.startswith(".")}


CASES = [(kind, old, "yes") for kind in kills.SETS for old in ("", "old")]
CASES.append(("folder", "old", "no"))


@pytest.mark.parametrize("kind, old, exchange", CASES)
def test_killed_at_every_step(kind, old, exchange, tmp_path):
    assert kills.start("table", tmp_path, kind, old, exchange).wait() == 0
    folders = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    before, after = expected(kind, old) if old else {}, expected(kind, "new")
    assert kills.contents(folders[-1]) == after
    happened = []
    for folder in folders[:-1]:
        found = seen(folder)
        marks = {n for n in found if n.endswith("/.unfinished")}
        found = {n: t for n, t in found.items() if n not in marks}
        # The old set, the new one, or a mixture without a hole; of folders, where the system
        # cannot exchange them, with one.
        if old and exchange == "yes":
            assert found.keys() == after.keys() and set(found.values()) <= {"old", "new"}
        whole = (folder / f".{kills.SETS[kind][0]}.unfinished" / "whole").is_dir()
        assert whole or found in (before, after)
        # What comes next finishes what has happened, also if it may not overwrite, and cleans up.
        try:
            with files.written_whole([folder / name for name in kills.SETS[kind]], False):
                raise RuntimeError
        except (FileExistsError, RuntimeError):
            pass
        assert kills.contents(folder) in (before, after)
        assert not whole or kills.contents(folder) == after
        happened.append(kills.contents(folder) == after)
    # First not, then for good.
    assert len(happened) > 10 and happened == sorted(happened)
    assert True in happened and False in happened


def test_a_live_writer_is_waited_for_and_a_dead_one_is_not(tmp_path):
    folder, ready = tmp_path / "out", tmp_path / "ready"
    folder.mkdir()
    holder = kills.start("hold", folder, ready)
    while not ready.exists():
        time.sleep(0.01)
    late = kills.start("write_file", folder)
    with pytest.raises(subprocess.TimeoutExpired):
        late.wait(0.5)
    assert kills.contents(folder) == {
        ".m.tflite.unfinished/lock": "",
        ".m.tflite.unfinished/new/m.tflite": "half",
    }
    holder.kill()
    assert holder.wait() and late.wait() == 0
    assert kills.contents(folder) == expected("file", "new")


def test_a_failure_to_put_files_in_place_names_them_and_is_mended_later(tmp_path, monkeypatch):
    kills.write(tmp_path, "file", "old")
    replace = os.replace

    def refuse(source, target):
        if pathlib.Path(target).suffix == ".json":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        for _ in range(2):
            with pytest.raises(OSError, match="not permitted.*are complete in .*whole and will be"):
                kills.write(tmp_path, "file", "new")
    assert seen(tmp_path) == {"m.tflite": "new", "m.tflite.json": "old"}
    with pytest.raises(FileExistsError):
        kills.write(tmp_path, "file", "newer", overwrite=False)
    assert kills.contents(tmp_path) == expected("file", "new")


@pytest.mark.parametrize("kind", ["a link", "a file"])
def test_what_is_in_the_way_of_the_hidden_folder_is_left_alone(kind, tmp_path):
    (tmp_path / "elsewhere" / "new").mkdir(parents=True)
    (tmp_path / "elsewhere" / "new" / "thesis.tex").write_text("years of work")
    hidden = tmp_path / "out" / ".m.tflite.unfinished"
    hidden.parent.mkdir()
    hidden.symlink_to(tmp_path / "elsewhere") if kind == "a link" else hidden.write_text("mine")
    with pytest.raises(OSError, match="unfinished is in the way and no folder; remove it"):
        kills.write(tmp_path / "out", "file", "new")
    assert (tmp_path / "elsewhere" / "new" / "thesis.tex").read_text() == "years of work"
    assert not (tmp_path / "out" / "m.tflite").exists()


def test_the_hidden_folder_of_another_user_is_not_used(tmp_path, monkeypatch):
    (tmp_path / ".m.tflite.unfinished" / "whole").mkdir(parents=True)
    (tmp_path / ".m.tflite.unfinished" / "whole" / "m.tflite").write_text("theirs")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(OSError, match="is of another user; remove it"):
        kills.write(tmp_path, "file", "new")
    assert not (tmp_path / "m.tflite").exists()


def test_all_is_flushed_before_it_takes_its_place(tmp_path, monkeypatch):
    events = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def flushed(descriptor):
        events.append(pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    if not pathlib.Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", lambda a, b: (events.append("whole"), rename(a, b)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("placed"), replace(a, b)))
    kills.write(tmp_path, "file", "new")
    assert sorted(events[:2]) == ["m.tflite", "m.tflite.json"]
    assert events[2:] == ["new", "whole", ".m.tflite.unfinished", "placed", "placed", tmp_path.name]


def test_a_dangling_link_is_something_that_exists(tmp_path):
    (tmp_path / "m.tflite").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="exists and is not overwritten"):
        write(tmp_path / "m.tflite")
    write(tmp_path / "m.tflite", overwrite=True)
    assert contents(tmp_path) == {"m.tflite": "new", "m.tflite.json": "new"}
    assert not (tmp_path / "m.tflite").is_symlink()


@pytest.mark.parametrize("old", ["file", "folder"])
def test_files_and_folders_take_the_place_of_each_other(old, tmp_path):
    target = tmp_path / "m"
    if old == "file":
        target.write_text("old")
        kills.write(tmp_path, "folder", "new")
        assert kills.contents(tmp_path) == expected("folder", "new")
    else:
        kills.write(tmp_path, "folder", "old")
        write(target, overwrite=True)
        assert contents(tmp_path) == {"m": "new", "m.json": "new"}
