"""The log of sigma: damage is named with its line."""

import pytest

from tfbnn.training.sigma_csv import SigmaFile

HEAD = b"step,epoch,layer,weight,mean\n1,0,dense,kernel,0.5\n"


@pytest.mark.parametrize(
    "line",
    [
        b"2,0,dense,kernel,half\n",
        b"two,0,dense,kernel,0.5\n",
        b"2,0,dense,kernel,0.\xff\n",
        b'2,0,dense,kernel,"' + b"1" * 200_000 + b'"\n',
    ],
    ids=["number", "step", "not UTF-8", "a huge field"],
)
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "sigma.csv"
    path.write_bytes(HEAD + line)
    with pytest.raises(ValueError, match=f"The log {path} is damaged in line"):
        SigmaFile(str(path), ["mean"]).read()


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "sigma.csv"
    path.write_bytes(HEAD + b"2,0,den")
    assert SigmaFile(str(path), ["mean"]).read() == [(1, {"dense/kernel": {"mean": 0.5}})]
