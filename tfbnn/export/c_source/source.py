"""Source: the text of the header, the source file and the Makefile."""

import dataclasses
import functools
import hashlib
import textwrap
from typing import Any

import numpy as np

from tfbnn.export.c_source.abstract_answer import AbstractAnswer
from tfbnn.export.c_source.program import Program
from tfbnn.export.c_source.text import filled, in_order

C_TYPES = {"float32": "float", "uint8": "uint8_t"}
FLAGS = (
    "-std=c99",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pedantic",
)


@dataclasses.dataclass(frozen=True)
class Source:
    """The texts of one network.

    `name` is a C identifier, with which all names begin; `remarks` are lines for the comment in the
    header: what was exported, and how.
    """

    name: str
    program: Program
    input_type: str
    remarks: tuple[str, ...]

    @property
    def answer(self) -> AbstractAnswer:
        """The last operation."""
        return self.program.operations[-1]

    @property
    def sizes(self) -> dict[str, int]:
        """The numbers of the header by the endings of their names."""
        return {
            "INPUT_SIZE": self.program.input.size,
            "PREDICTION_SIZE": int(np.prod(self.answer.prediction_shape)),
            "UNCERTAINTY_SIZE": int(np.prod(self.answer.uncertainty_shape)),
            "WEIGHT_BYTES": sum(array.num_bytes for array in self.program.arrays),
            "SCRATCH_BYTES": 4 * self._scratch_floats,
        }

    def header(self) -> str:
        """`<name>.h`"""
        upper = self.name.upper()
        lines = [*self.filled(_COMMENT).splitlines(), "", *self.remarks]
        numbers = {**self.sizes, "EXPORT": self._export}
        return self.filled(
            _HEADER,
            comment="\n".join(f" * {line}".rstrip() for line in lines),
            defines="\n".join(
                f"#define {f'{upper}_{ending}':<{len(upper) + 18}}{value}"
                for ending, value in numbers.items()
            ),
        )

    def source(self) -> str:
        """`<name>.c`"""
        return self.filled(_SOURCE, code=self._code)

    def makefile(self) -> str:
        """`Makefile`"""
        # A warning of some later compiler must not stop a user's build.
        flags = " ".join(flag for flag in FLAGS if flag != "-Werror")
        return self.filled(_MAKEFILE, flags=flags)

    def filled(self, template: str, **holes: Any) -> str:
        """A text of this network from a template, with holes beside its own."""
        first, second, third = self.answer.likelihood.meanings.values()
        return filled(
            template,
            {},
            name=self.name,
            upper=self.name.upper(),
            export=self._export,
            signature=self._signature(),
            scratch_floats=self._scratch_floats,
            input=_shaped(self.program.input.shape),
            prediction=f"{_shaped(self.answer.prediction_shape)}: {first}",
            uncertainty=f"{_shaped(self.answer.uncertainty_shape)}: {second}",
            third_answer=self.answer.names[2],
            third_padded=f"{self.answer.names[2]:<19}",
            third=third,
            **holes,
        )

    @functools.cached_property
    def _code(self) -> str:
        arrays = "\n".join(array.definition() for array in self.program.arrays)
        functions = "\n".join(function.text for function in in_order(self.program.functions))
        return f"{arrays}\n{functions}\n{self._predict()}"

    @property
    def _export(self) -> str:
        """A number that tells this network from others, for the preprocessor."""
        content = f"{self.sizes}{self.remarks}{self._code}"
        return f"0x{hashlib.sha256(content.encode()).hexdigest()[:8]}u"

    @property
    def _scratch_floats(self) -> int:
        # C has no empty arrays.
        return max(1, self.program.scratch_floats)

    def _signature(self) -> str:
        name = f"{self.name}_predict"
        indent = f",\n{' ' * len(f'void {name}(')}"
        parameters = [
            f"const {C_TYPES[self.input_type]} *input",
            "float *prediction",
            "float *uncertainty",
            f"float *{self.answer.names[2]}",
            f"{self.name}_scratch *scratch",
        ]
        return f"void {name}({indent.join(parameters)})"

    def _predict(self) -> str:
        steps = zip(self.program.operations, self.program.places, strict=True)
        statements = "\n".join(operation.statement(places) for operation, places in steps)
        body = f"float *const buffer = scratch->buffer;\n\n{statements}\n"
        return f"{self._signature()}\n{{\n{textwrap.indent(body, '    ')}}}\n"


_HEADER = """\
/*
${comment}
 */
#ifndef ${upper}_H
#define ${upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

${defines}

typedef struct {
    float buffer[${scratch_floats}];
} ${name}_scratch;

${signature};

#ifdef __cplusplus
}
#endif

#endif
"""

# As in the check program, it does not compile with the header of another export.
_SOURCE = """\
/* See ${name}.h. */
#include "${name}.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#if ${upper}_EXPORT != ${export}
#error "${name}.h is of another export than this file; export both again"
#endif

${code}"""

_COMMENT = """\
${name}: a Bayesian neural network as a C function. Written by tfbnn; do not edit.

    static ${name}_scratch scratch;
    ${name}_predict(input, prediction, uncertainty, ${third_answer}, &scratch);

answers for one input. All memory is the caller's; nothing is allocated and nothing is kept from
one call to the next, so that threads may call it at once, each with a scratch of its own. The
weights are constants (WEIGHT_BYTES of flash). It needs C99, 32-bit IEEE floats and libm.

    input               ${input}
    prediction          ${prediction}
    uncertainty         ${uncertainty}
    ${third_padded} as uncertainty: ${third}
                        (0 without variances)

`make test` checks this code on some inputs, `make benchmark` takes the time of a call, `make stack`
prints the stack that each function needs.
"""

_MAKEFILE = """\
# make test: the answers on some inputs are those that were expected
# make benchmark: median microseconds of a call
# make stack: bytes of stack of each function (gcc)
CC ?= cc
CFLAGS ?= ${flags}

test_${name}: test_${name}.o ${name}.o
\t$$(CC) $$(CFLAGS) -o $$@ test_${name}.o ${name}.o -lm

test_${name}.o: test_${name}.c ${name}.h
\t$$(CC) $$(CFLAGS) -c -o $$@ test_${name}.c

${name}.o: ${name}.c ${name}.h
\t$$(CC) $$(CFLAGS) -c -o $$@ ${name}.c

test: test_${name}
\t./test_${name}

benchmark: test_${name}
\t./test_${name} --benchmark 100

stack:
\t$$(CC) $$(CFLAGS) -fstack-usage -c -o ${name}.o ${name}.c
\tcat ${name}.su

clean:
\trm -f test_${name} *.o *.su

.PHONY: test benchmark stack clean
"""


def _shaped(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "1"
