"""The check program: expected answers on some inputs, the time of a call, answers to a pipe."""

import dataclasses

import numpy as np

from tfbnn.export.c_source.source import C_TYPES, Source
from tfbnn.export.c_source.text import Array


@dataclasses.dataclass(frozen=True)
class Expected:
    """Inputs `(rows, ...)`, the three answers to them, and how far each may be off."""

    rows: np.ndarray
    answers: tuple[np.ndarray, ...]
    tolerances: tuple[float, ...]


def check_program(source: Source, expected: Expected) -> str:
    """The text of `test_<name>.c`."""
    names = source.answer.names
    rows = expected.rows.astype(source.input_type)
    arrays = [Array("rows", rows)]
    arrays += [
        Array(f"expected_{name}", values.astype(np.float32))
        for name, values in zip(names, expected.answers, strict=True)
    ]
    return source.filled(
        _TEXT,
        input_type=C_TYPES[source.input_type],
        num_rows=len(rows),
        third_in_words=names[2].replace("_", " "),
        arrays="\n".join(array.definition() for array in arrays),
        tolerances=", ".join(f"{t:.3g}" for t in expected.tolerances),
    )


_TEXT = """\
/*
 * Tests ${name}.c.
 *
 *   test_${name}                 compares answers with expected ones, prints PASS or FAIL
 *   test_${name} --benchmark N   median microseconds of a call, over N measurements
 *   test_${name} --stdin         reads inputs, as raw numbers, and writes the answers of each
 */
#include "${name}.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if ${upper}_EXPORT != ${export}
#error "${name}.h is of another export than this file; export both again"
#endif

/* Answers of TensorFlow with the weights of this code, when it was written. */
${arrays}
static ${name}_scratch scratch;
static float prediction[${upper}_PREDICTION_SIZE];
static float uncertainty[${upper}_UNCERTAINTY_SIZE];
static float ${third_answer}[${upper}_UNCERTAINTY_SIZE];

static void predict(const ${input_type} *input)
{
    ${name}_predict(input, prediction, uncertainty, ${third_answer}, &scratch);
}

static double largest_difference(int size, const float *found, const float *expected)
{
    double largest = 0.0;
    for (int i = 0; i < size; i++) {
        const double difference = fabs((double)found[i] - (double)expected[i]);
        if (!(difference <= largest)) {
            largest = difference;  /* also if it is no number */
        }
    }
    return largest;
}

static int compare(void)
{
    static const double tolerances[3] = {${tolerances}};
    static const char *const names[3] = {"prediction", "uncertainty", "${third_in_words}"};
    double differences[3] = {0.0, 0.0, 0.0};
    int failed = 0;
    for (int row = 0; row < ${num_rows}; row++) {
        double found[3];
        predict(rows + row * ${upper}_INPUT_SIZE);
        found[0] = largest_difference(${upper}_PREDICTION_SIZE, prediction,
                                      expected_prediction + row * ${upper}_PREDICTION_SIZE);
        found[1] = largest_difference(${upper}_UNCERTAINTY_SIZE, uncertainty,
                                      expected_uncertainty + row * ${upper}_UNCERTAINTY_SIZE);
        found[2] = largest_difference(${upper}_UNCERTAINTY_SIZE, ${third_answer},
                                      expected_${third_answer} + row * ${upper}_UNCERTAINTY_SIZE);
        for (int i = 0; i < 3; i++) {
            if (!(found[i] <= differences[i])) {
                differences[i] = found[i];
            }
        }
    }
    for (int i = 0; i < 3; i++) {
        printf("%s: off by at most %.3g, the tolerance is %.3g\\n", names[i], differences[i],
               tolerances[i]);
        failed |= !(differences[i] <= tolerances[i]);
    }
    printf(failed ? "FAIL\\n" : "PASS\\n");
    return failed;
}

static double microseconds(long calls)
{
    const clock_t start = clock();
    for (long call = 0; call < calls; call++) {
        predict(rows + (call % ${num_rows}) * ${upper}_INPUT_SIZE);
    }
    return 1e6 * (double)(clock() - start) / CLOCKS_PER_SEC;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int benchmark(long measurements)
{
    long calls = 1;
    double *times = measurements > 0 ? malloc((size_t)measurements * sizeof *times) : NULL;
    if (!times) {
        fprintf(stderr, "The number of measurements must be positive and fit in memory.\\n");
        return 2;
    }
    /* clock() is coarse: a measurement is as many calls as take 2 ms. */
    while (microseconds(calls) < 2000.0) {
        calls *= 2;
    }
    for (long i = 0; i < measurements; i++) {
        times[i] = microseconds(calls) / (double)calls;
    }
    qsort(times, (size_t)measurements, sizeof *times, ascending);
    printf("%.3f\\n", times[measurements / 2]);
    free(times);
    return 0;
}

static int answer_stdin(void)
{
    static ${input_type} input[${upper}_INPUT_SIZE];
    while (fread(input, sizeof input, 1, stdin) == 1) {
        predict(input);
        fwrite(prediction, sizeof prediction, 1, stdout);
        fwrite(uncertainty, sizeof uncertainty, 1, stdout);
        fwrite(${third_answer}, sizeof ${third_answer}, 1, stdout);
    }
    return ferror(stdin) || fflush(stdout) != 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--benchmark") == 0) {
        return benchmark(strtol(argv[2], NULL, 10));
    }
    if (argc == 2 && strcmp(argv[1], "--stdin") == 0) {
        return answer_stdin();
    }
    return compare();
}
"""
