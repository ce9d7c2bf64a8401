"""The check program: expected answers on some inputs, the time of a call, answers to a pipe."""

import dataclasses

import numpy as np

from tfbnn.export.c_source.source import C_TYPES
from tfbnn.export.c_source.text import Array


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the test program compares with.

    Attributes:
        rows: Inputs `(rows, ...)`.
        answers: Prediction, uncertainty and the third answer, `(rows, ...)` each.
        tolerances: For each of them the largest difference that passes.
    """

    rows: np.ndarray
    answers: tuple[np.ndarray, ...]
    tolerances: tuple[float, ...]


def check_program(network: str, input_type: str, names: tuple[str, ...], expected: Expected) -> str:
    """The text of `test_<name>.c`; `names` are those of the answers."""
    rows = expected.rows.astype(input_type)
    arrays = [Array("rows", rows)]
    arrays += [
        Array(f"expected_{name}", values.astype(np.float32))
        for name, values in zip(names, expected.answers, strict=True)
    ]
    text = _TEXT.replace("NAME", network.upper()).replace("name_", f"{network}_")
    return (
        text.replace("INPUT_TYPE", C_TYPES[input_type])
        .replace("NUM_ROWS", str(len(rows)))
        .replace("third_answer", names[2])
        .replace("third answer", names[2].replace("_", " "))
        .replace("FILE", network)
        .replace("ARRAYS", "\n".join(array.definition() for array in arrays))
        .replace("TOLERANCES", ", ".join(f"{t:.3g}" for t in expected.tolerances))
    )


_TEXT = """\
/*
 * Tests FILE.c.
 *
 *   test_FILE                 compares answers with expected ones, prints PASS or FAIL
 *   test_FILE --benchmark N   median microseconds of a call, over N measurements
 *   test_FILE --stdin         reads inputs, as raw numbers, and writes the answers of each
 */
#include "FILE.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Answers of TensorFlow, when this code was written. */
ARRAYS
static name_scratch scratch;
static float prediction[NAME_PREDICTION_SIZE];
static float uncertainty[NAME_UNCERTAINTY_SIZE];
static float third_answer[NAME_UNCERTAINTY_SIZE];

static void predict(const INPUT_TYPE *input)
{
    name_predict(input, prediction, uncertainty, third_answer, &scratch);
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
    static const double tolerances[3] = {TOLERANCES};
    static const char *const names[3] = {"prediction", "uncertainty", "third answer"};
    double differences[3] = {0.0, 0.0, 0.0};
    int failed = 0;
    for (int row = 0; row < NUM_ROWS; row++) {
        double found[3];
        predict(rows + row * NAME_INPUT_SIZE);
        found[0] = largest_difference(NAME_PREDICTION_SIZE, prediction,
                                      expected_prediction + row * NAME_PREDICTION_SIZE);
        found[1] = largest_difference(NAME_UNCERTAINTY_SIZE, uncertainty,
                                      expected_uncertainty + row * NAME_UNCERTAINTY_SIZE);
        found[2] = largest_difference(NAME_UNCERTAINTY_SIZE, third_answer,
                                      expected_third_answer + row * NAME_UNCERTAINTY_SIZE);
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
        predict(rows + (call % NUM_ROWS) * NAME_INPUT_SIZE);
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
    static INPUT_TYPE input[NAME_INPUT_SIZE];
    while (fread(input, sizeof input, 1, stdin) == 1) {
        predict(input);
        fwrite(prediction, sizeof prediction, 1, stdout);
        fwrite(uncertainty, sizeof uncertainty, 1, stdout);
        fwrite(third_answer, sizeof third_answer, 1, stdout);
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
