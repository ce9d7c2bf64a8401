"""A file is the old one or the new one."""

import pytest

from tfbnn.training.whole_files import whole_file


@pytest.mark.parametrize("several_writers", [False, True])
def test_the_old_one_stays_until_the_new_one_is_whole(tmp_path, several_writers):
    path = tmp_path / "state.json"
    for text in ("old", "new"):
        with whole_file(path, several_writers) as unfinished:
            unfinished.write_text(text)
            assert text == "old" or path.read_text() == "old"
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("several_writers", [False, True])
def test_an_error_leaves_the_old_one_and_nothing_else(tmp_path, several_writers):
    path = tmp_path / "state.json"
    path.write_text("old")
    with pytest.raises(InterruptedError):
        with whole_file(path, several_writers) as unfinished:
            unfinished.write_text("half")
            raise InterruptedError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_at_the_same_time_have_paths_of_their_own(tmp_path):
    path = tmp_path / "state.json"
    with whole_file(path, several_writers=True) as one:
        with whole_file(path, several_writers=True) as other:
            one.write_text("one")
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"


def test_what_a_killed_writer_left_is_written_over(tmp_path):
    path = tmp_path / "state.json"
    path.with_suffix(".unfinished").write_text("half")
    with whole_file(path) as unfinished:
        unfinished.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
