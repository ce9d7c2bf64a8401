"""A file is the old one or the new one, and no other file is touched."""

import errno
import os

import matplotlib.figure
import pytest

from tfbnn.whole_files import save_figure, whole_file

WRITERS = pytest.mark.parametrize("several_writers", [False, True])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.json"


@WRITERS
def test_the_old_one_stays_until_the_new_one_is_whole(path, several_writers):
    for text in (b"old", b"new"):
        with whole_file(path, several_writers) as file:
            file.write(text)
            assert text == b"old" or path.read_bytes() == b"old"
        assert path.read_bytes() == text
    assert list(path.parent.iterdir()) == [path]


@WRITERS
def test_an_error_leaves_the_old_one_and_nothing_else(path, several_writers):
    path.write_text("old")
    with pytest.raises(InterruptedError):
        with whole_file(path, several_writers) as file:
            file.write(b"half")
            raise InterruptedError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_writers_at_the_same_time_have_files_of_their_own(path):
    with whole_file(path, several_writers=True) as one:
        with whole_file(path, several_writers=True) as other:
            one.write(b"one")
            other.write(b"other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"


def test_files_that_differ_in_their_endings_are_written_at_the_same_time(tmp_path):
    with whole_file(tmp_path / "a.json") as one, whole_file(tmp_path / "a.csv") as other:
        one.write(b"one")
        other.write(b"other")
    assert (tmp_path / "a.json").read_text() == "one"
    assert (tmp_path / "a.csv").read_text() == "other"


@pytest.mark.parametrize("left", ["file", "link", "link to nothing", "hard link"])
def test_what_lies_in_the_way_is_removed_and_what_it_leads_to_stays(path, tmp_path, left):
    unfinished = path.with_name("state.json.unfinished")
    other = tmp_path / "elsewhere" / "other"
    other.parent.mkdir()
    other.write_text("not ours")
    if left == "file":
        unfinished.write_text("half")
    elif left == "hard link":
        os.link(other, unfinished)
    else:
        unfinished.symlink_to(other if left == "link" else other.with_name("nothing"))
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_text() == "new" and not path.is_symlink()
    assert other.read_text() == "not ours" and list(other.parent.iterdir()) == [other]
    assert sorted(tmp_path.iterdir()) == [other.parent, path]


def test_a_link_set_at_the_last_moment_is_not_followed(path, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.write_text("not ours")
    unfinished = path.with_name("state.json.unfinished")
    open_file = os.open

    def open_later(*arguments):
        unfinished.symlink_to(other)
        return open_file(*arguments)

    monkeypatch.setattr(os, "open", open_later)
    with pytest.raises(OSError, match="Cannot write .*state.json'"):
        with whole_file(path) as file:
            file.write(b"new")
    assert other.read_text() == "not ours" and not path.exists()


def test_a_link_is_replaced_and_not_written_through(path, tmp_path):
    other = tmp_path / "other"
    other.write_text("not ours")
    path.symlink_to(other)
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_text() == "new" and other.read_text() == "not ours"


@pytest.mark.parametrize("kind", ["no folder", "folder is a file", "a folder in its place"])
def test_what_cannot_be_written_is_named(tmp_path, kind):
    path = tmp_path / "folder" / "state.json"
    if kind == "folder is a file":
        path.parent.write_text("")
    elif kind == "a folder in its place":
        (path / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match=r"Cannot write \(.*as it was.*folder/state.json'") as caught:
        with whole_file(path) as file:
            file.write(b"new")
    assert caught.value.filename == str(path)
    assert [p.name for p in tmp_path.rglob("*.unfinished")] == []


def test_a_full_disk_leaves_the_old_file(path, full_disk):
    path.write_text("old")
    with full_disk(1000), pytest.raises(OSError, match="Cannot write .*as it was.*state.json'"):
        with whole_file(path) as file:
            file.write(bytes(10_000))
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_an_error_about_another_file_is_left_alone(path):
    with pytest.raises(OSError, match="No such file or directory: '/nothing'"):
        with whole_file(path):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), "/nothing")


def test_a_picture_is_whole_and_leaves_the_old_one_if_it_cannot_be(tmp_path, full_disk):
    figure = matplotlib.figure.Figure()
    path = tmp_path / "a.svg"
    path.write_text("old")
    with full_disk(100), pytest.raises(OSError, match="Cannot write .*a.svg'"):
        save_figure(figure, path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    save_figure(figure, path)
    assert path.read_bytes().startswith(b"<?xml")
    save_figure(figure, tmp_path / "b", dpi=50)
    assert (tmp_path / "b").read_bytes().startswith(b"\x89PNG")
