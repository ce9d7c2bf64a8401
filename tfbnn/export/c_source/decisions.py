"""Decisions in C: a header with thresholds and the functions that compare with them.

It lies beside code that was written, and does not compile with other code. Each function does what
its rule in `tfbnn/lite_rules.py` does, one operation of float32 after the other: a product is
rounded in a statement of its own, so that no compiler makes one operation of it and the sum.
"""

import functools
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfbnn import arguments
from tfbnn.export import manifest
from tfbnn.export.c_source.c_compiler import CompiledNetwork, compile_network, compiler
from tfbnn.export.c_source.text import filled, float_literal
from tfbnn.export.options import Inputs
from tfbnn.lite_rules import Accepted, ClassSet, Interval, Rule, YesNoSet
from tfbnn.training.data import check_arrays


def answers(folder: pathlib.Path, described: dict[str, Any], x: Any) -> dict[str, np.ndarray]:
    """The prediction and the uncertainty of C code that was written, compiled here.

    Raises:
        ValueError: If the code is not what its manifest describes, or `x` not what it takes.
        RuntimeError: If there is no compiler.
    """
    name, input_type = folder.name, described["input_type"]
    if described["sha256"] != manifest.digest(folder / f"{name}.c"):
        raise ValueError(
            f"{folder / name}.c is not the file that its manifest {name}.json describes: export it "
            f"again. Received: path={str(folder)!r}"
        )
    rows = arguments.real_array("x", x).astype(np.float32)
    if rows.shape[1:] != tuple(described["input_shape"][1:]) or not len(rows):
        raise ValueError(
            f"`x` must have the shape (rows, {', '.join(map(str, described['input_shape'][1:]))}). "
            f"Received: x of shape {rows.shape}"
        )
    check_arrays("x", rows)
    Inputs(type=input_type).check("x", [rows])
    if compiler() is None:
        raise RuntimeError(
            "The code is compiled and run to see what it answers, and there is no C compiler `cc`. "
            f"Received: path={str(folder)!r}"
        )
    numbers = [_size(folder, ending) for ending in ("PREDICTION_SIZE", "UNCERTAINTY_SIZE")]
    with tempfile.TemporaryDirectory() as built:
        program = compile_network(folder, pathlib.Path(built), name)
        shapes = _shapes(*numbers)
        found = CompiledNetwork(program, input_type, [*shapes, shapes[1]]).answers(rows)
    return dict(zip(("prediction", "uncertainty"), found, strict=False))


def header(folder: pathlib.Path, rules: Sequence[Rule]) -> str:
    """`<name>_decisions.h`: the functions of some rules."""
    name, export = folder.name, _defined(folder, "EXPORT")
    functions = "\n".join(_function(rule, name, folder) for rule in rules)
    return filled(_HEADER, {}, name=name, upper=name.upper(), export=export, functions=functions)


def _shapes(prediction: int, uncertainty: int) -> list[tuple[int, ...]]:
    """Shapes of the two for one row, of their sizes."""
    if prediction == uncertainty:
        # An uncertainty for each; of one yes or no there is no axis for it.
        return [(prediction,), (uncertainty,)]
    places = [uncertainty] * (uncertainty > 1)
    return [(*places, prediction // uncertainty), (*places,)]


def _size(folder: pathlib.Path, ending: str) -> int:
    return int(_defined(folder, ending))


def _defined(folder: pathlib.Path, ending: str) -> str:
    """What the header of the code defines a name as."""
    name = f"{folder.name.upper()}_{ending}"
    text = (folder / f"{folder.name}.h").read_text()
    found = re.search(rf"^#define {name} +(\S+)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(
            f"{folder.name}.h is damaged, or was not written by tfbnn: export it again. Received: "
            f"no `{name}` in {folder / folder.name}.h"
        )
    return found[1]


@functools.singledispatch
def _function(rule: Rule, name: str, folder: pathlib.Path) -> str:
    """The C function of a rule."""
    raise NotImplementedError(type(rule))


@_function.register
def _(rule: Accepted, name: str, folder: pathlib.Path) -> str:
    return filled(_ACCEPTED, {}, name=name, threshold=_literals(rule))


@_function.register
def _(rule: Interval, name: str, folder: pathlib.Path) -> str:
    count = _size(folder, "PREDICTION_SIZE")
    return filled(_INTERVAL, {}, name=name, count=count, thresholds=_literals(rule))


@_function.register
def _(rule: ClassSet, name: str, folder: pathlib.Path) -> str:
    size, places = (_size(folder, f"{one}_SIZE") for one in ("PREDICTION", "UNCERTAINTY"))
    is_yes_no = isinstance(rule, YesNoSet)
    return filled(
        _SET,
        {"yes_no": is_yes_no},
        name=name,
        upper=name.upper(),
        places=places,
        classes=2 if is_yes_no else size // places,
        thresholds=_literals(rule),
        penalty=float_literal(float(np.float32(rule.penalty))),
        num_unpenalised=rule.num_unpenalised,
    )


def _literals(rule: Rule) -> str:
    return ", ".join(float_literal(float(one)) for one in np.ravel(rule.thresholds))


_HEADER = """\
/*
 * Decisions on what ${name}_predict answers. Written by `tfbnn.decide`; do not edit. The manifest
 * says what they promise, and of how many rows the thresholds are.
 */
#ifndef ${upper}_DECISIONS_H
#define ${upper}_DECISIONS_H

#include "${name}.h"

#if ${upper}_EXPORT != ${export}
#error "the thresholds are of another network than ${name}.h; call tfbnn.decide for this one"
#endif

#ifdef __cplusplus
extern "C" {
#endif

${functions}
#ifdef __cplusplus
}
#endif

#endif
"""

_ACCEPTED = """\
/* Whether a prediction that is this uncertain may be acted on: 1 or 0. */
static inline int ${name}_accepted(const float *uncertainty)
{
    return uncertainty[0] <= ${threshold};
}
"""

_INTERVAL = """\
/* The interval of each target. */
static inline void ${name}_interval(const float *prediction, const float *uncertainty, float *lower,
                                    float *upper)
{
    static const float thresholds[${count}] = {${thresholds}};
    for (int i = 0; i < ${count}; i++) {
        const float half = thresholds[i] * uncertainty[i];
        lower[i] = prediction[i] - half;
        upper[i] = prediction[i] + half;
    }
}
"""

_SET = """\
#define ${upper}_SET_SIZE (${places} * ${classes})

/* Which classes are in the set, 1 or 0 for each of SET_SIZE; the number of those that are. */
static inline int ${name}_set(const float *prediction, unsigned char *set)
{
    static const float thresholds[${places}] = {${thresholds}};
    int count = 0;
    for (int place = 0; place < ${places}; place++) {
        float score = 0.0f, before = 0.0f;
        const float yes_no[2] = {1.0f - prediction[place], prediction[place]};  //? yes_no
        const float *const p = yes_no;  //? yes_no
        const float *const p = prediction + place * ${classes};  //? !yes_no
        unsigned char *const in = set + place * ${classes};
        for (int i = 0; i < ${classes}; i++) {
            in[i] = 0;
        }
        /* From the most probable class on; scores rise. */
        for (int rank = 0; rank < ${classes}; rank++) {
            const float step = before + (rank >= ${num_unpenalised} ? ${penalty} : 0.0f);
            int best = -1;
            score += step;
            if (!(score <= thresholds[place])) {
                break;
            }
            for (int i = 0; i < ${classes}; i++) {
                if (!in[i] && (best < 0 || p[i] > p[best])) {
                    best = i;
                }
            }
            in[best] = 1;
            before = p[best];
            count++;
        }
    }
    return count;
}
"""
