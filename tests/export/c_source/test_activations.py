"""The exponential of the C code is that of numpy."""

import ctypes
import subprocess

import numpy as np
import pytest

from tfbnn.export.c_source.activations import EXPONENTIAL
from tfbnn.export.c_source.source import FLAGS

_PROGRAM = """\
#include <stdint.h>
{function}
void exponentials(int count, const float *x, float *y)
{{
    for (int i = 0; i < count; i++) {{
        y[i] = exponential(x[i]);
    }}
}}
"""


@pytest.fixture(scope="module", params=["-O0", "-O3"])
def exponentials(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exponential")
    source, library = folder / "exponential.c", folder / "exponential.so"
    source.write_text(_PROGRAM.format(function=EXPONENTIAL.text))
    command = ["cc", *FLAGS, request.param, "-shared", "-fPIC", "-o", library, source]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(str(library)).exponentials

    def run(x):
        x = np.asarray(x, np.float32)
        y = np.empty_like(x)
        pointers = [a.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for a in (x, y)]
        function(len(x), *pointers)
        return y

    return run


def test_relative_error(exponentials):
    x = np.linspace(-87, 87, 1_000_003).astype(np.float32)
    expected = np.exp(x.astype(np.float64))
    assert np.max(np.abs(exponentials(x) / expected - 1)) < 3e-7
    assert exponentials([0.0]) == 1


def test_far_away(exponentials):
    low, high, nan = exponentials([-np.inf, 1e30, np.nan])
    assert 0 < low < 1e-37 and 1e37 < high < np.inf and np.isnan(nan)
