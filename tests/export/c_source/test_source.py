"""Names and texts that a user chooses, in C: any identifier, and anything in a comment."""

import dataclasses
import json
import re
import shutil
import subprocess
import types

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.export import flat
from tests.export.c_source import models
from tests.export.c_source.networks import model_of
from tfbnn.export.c_source import c_compiler, exporter
from tfbnn.export.c_source.check_program import Expected, check_program
from tfbnn.export.c_source.source import Source
from tfbnn.export.c_source.text import in_comment
from tfbnn.export.c_source.translator import Settings
from tfbnn.export.options import Inputs
from tfbnn.posterior import posterior_of

pytestmark = pytest.mark.skipif(
    c_compiler.compiler() is None, reason="there is no C compiler `cc` to run the code"
)
SYNTAX = [*c_compiler.FLAGS, "-Wcomment", "-Wshadow", "-fsyntax-only"]
# Words of the templates, of the code, of C and of make.
WORDS = (
    "profile file arrays rows name NAME FILE ARRAYS INPUT_TYPE NUM_ROWS TOLERANCES third "
    "third_answer upper main test double int unix linux benchmark stack clean predict scratch "
    "prediction "
    "uncertainty expected answer softmax point points linear_0 layer_0 buffer input Makefile NULL "
    "FEATURES e x a1_ A FINISH same_export"
).split()


@pytest.fixture(scope="module")
def source():
    return made(model_of("dense"), "net")


def made(model, name, class_names=None, preprocessing=None):
    posterior, chosen = posterior_of(model), Settings()
    inputs = Inputs(preprocessing=preprocessing)
    shipment = types.SimpleNamespace(posterior=posterior, class_names=class_names, inputs=inputs)
    remarks = exporter._remarks(shipment, chosen)
    return Source(name, exporter._program(posterior, chosen), "float32", remarks)


def texts(source):
    """The files, with answers of zeros."""
    expected = Expected(
        np.zeros((2, *source.program.input.shape), np.float32),
        tuple(np.zeros((2, 3) if n == 0 else (2,), np.float32) for n in range(3)),
        (1.0, 1.0, 1.0),
    )
    return {
        f"{source.name}.h": source.header(),
        f"{source.name}.c": source.source(),
        f"test_{source.name}.c": check_program(source, expected),
        "Makefile": source.makefile(),
    }


def write(source, folder):
    folder.mkdir()
    for name, text in texts(source).items():
        (folder / name).write_text(text)


def compiled(folder, *options):
    sources = sorted(path.name for path in folder.glob("*.c"))
    command = ["cc", *(options or SYNTAX), *sources]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def in_all(*values):
    """`example` for each of them."""

    def decorate(function):
        for value in values:
            function = example(value)(function)
        return function

    return decorate


@in_all(*WORDS)
@given(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,40}", fullmatch=True))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_any_identifier_can_begin_the_names(source, tmp_path_factory, name):
    if name.lower() in exporter._HEADERS:
        return
    folder = tmp_path_factory.mktemp("names") / name
    write(dataclasses.replace(source, name=name), folder)
    ended = compiled(folder)
    assert ended.returncode == 0, f"{name}: {ended.stderr}"
    # Nothing but the name itself differs: no word of the code was taken for a place of the name.
    for file, text in texts(dataclasses.replace(source, name="QqQ")).items():
        renamed = text.replace("QqQ", name).replace("QQQ", name.upper())
        found = (folder / file.replace("QqQ", name)).read_text()
        assert _aligned(found) == _aligned(renamed)


def _aligned(text):
    """Without the number of the export, and with one blank for many."""
    return re.sub(r"\s+", " ", re.sub(r"0x[0-9a-f]{8}u", "", text))


@pytest.mark.parametrize("name", ["profile", "test", "double", "arrays"])
def test_make_test_with_such_names(name, tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    flat.c(model_of("dense"), tmp_path / name, check_data=models.inputs_of((5,), 8))
    command = ["make", "test", "CFLAGS=-std=c99"]
    ended = subprocess.run(command, cwd=tmp_path / name, capture_output=True, text=True)
    assert ended.returncode == 0 and "PASS" in ended.stdout, ended.stderr


@pytest.mark.parametrize("name", ["math", "String", "stdint", "time", "3-nets", "_net", "", "a.b"])
def test_names_that_cannot_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="begins all names in C.*not that of a header"):
        flat.c(model_of("dense"), f"{tmp_path}/{name}/" if name else "/", check_data=np.eye(5))
    assert not list(tmp_path.iterdir())


HOSTILE = [
    "/*",
    "*/",
    "/*/",
    "*//*",
    "??/",
    "a \\",
    "\\\n*/",
    "é ü 中",
    "\x00\x07\x1b[31m",
    "\u202e",
]
HOSTILE += ["%s %n", "${name}", "#error", '"', "'", "", " ", "// /", "\ud800", "NAME_ FILE"]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_the_user_stay_in_their_comments(text, source, tmp_path):
    model = model_of("dense")
    hostile = made(model, "net", ["a", text, "b"], text)
    linear = hostile.program.operations[0]
    # A name that Keras lets through is in the code too.
    renamed = dataclasses.replace(linear, title=f"{text!r} {text}: 5 -> 8")
    program = dataclasses.replace(
        hostile.program, operations=(renamed, *hostile.program.operations[1:])
    )
    write(dataclasses.replace(hostile, program=program), tmp_path / "net")
    ended = compiled(tmp_path / "net")
    assert ended.returncode == 0, ended.stderr
    assert all(path.read_bytes().isascii() for path in (tmp_path / "net").iterdir())
    # What is left without the comments is the same code.
    plain, found = source.source(), (tmp_path / "net" / "net.c").read_text()
    assert _aligned(_code(found)) == _aligned(_code(plain))


def _code(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


@given(st.text())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_nothing_in_a_comment_ends_it(text):
    found = in_comment(text)
    assert found.isascii() and found.isprintable()
    assert not re.search(r"/\*|\*/|\?\?", found)


# TensorFlow takes no blanks and no signs.
NAMES = ["", "x" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_layers(name, tmp_path):
    model = models.sequential((5,), models.dense(4, name=name), models.dense(3, name="last"))
    manifest = flat.c(model, tmp_path / "net", check_data=models.inputs_of((5,), 8))
    assert manifest["storage"] == {name: "dense", "last": "dense"}
    assert json.loads((tmp_path / "net" / "net.json").read_text()) == manifest


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", ["tflite", "saved_model"])
def test_names_of_layers_in_other_files(target, name, tmp_path):
    model = models.sequential((5,), models.dense(4, name=name), models.dense(3))
    options = {"precision": "posterior"} if target == "tflite" else {"num_samples": 2}
    x = models.inputs_of((5,), 8)
    manifest = getattr(flat, target)(model, tmp_path / "m", check_data=x, **options)
    if target == "tflite":
        assert name in manifest["bits"]


def test_headers_and_sources_of_two_exports_do_not_compile(tmp_path):
    """What a kill between two of the files would leave."""
    for folder, units in (("one", 8), ("two", 16)):
        model = models.sequential((5,), models.dense(units, activation="relu"), models.dense(3))
        write(made(model, "net"), tmp_path / folder)
        assert compiled(tmp_path / folder).returncode == 0
    for file in ("net.h", "net.c", "test_net.c"):
        mixed = tmp_path / f"mixed {file}"
        shutil.copytree(tmp_path / "one", mixed)
        shutil.copy(tmp_path / "two" / file, mixed)
        ended = compiled(mixed)
        assert ended.returncode and "net.h is of another export" in ended.stderr


def test_the_number_of_an_export_is_that_of_its_content(source):
    again, other = made(model_of("dense"), "net"), made(model_of("normal bias"), "net")
    assert source._export == again._export != other._export
    keras.utils.set_random_seed(1)
    assert re.fullmatch(r"0x[0-9a-f]{8}u", source._export)
