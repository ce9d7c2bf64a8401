/*
 * network: a Bayesian neural network as a C function. Written by tfbnn; do not edit.
 *
 *     static network_scratch scratch;
 *     network_predict(input, prediction, uncertainty, mutual_information, &scratch);
 *
 * answers for one input. All memory is the caller's; nothing is allocated and nothing is kept from
 * one call to the next, so that threads may call it at once, each with a scratch of its own. The
 * weights are constants (WEIGHT_BYTES of flash). It needs C99, 32-bit IEEE floats and libm.
 *
 *     input               4x4x2
 *     prediction          3: mean probability of each class
 *     uncertainty         1: predictive entropy, nats
 *     mutual_information  as uncertainty: mutual information of label and weights, nats
 *                         (0 without variances)
 *
 * `make test` checks this code on some inputs, `make benchmark` takes the time of a call, `make stack`
 * prints the stack that each function needs.
 *
 * Model: written_before (uncertainty=moments, precision=float32, scale=full)
 */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NETWORK_INPUT_SIZE       32
#define NETWORK_PREDICTION_SIZE  3
#define NETWORK_UNCERTAINTY_SIZE 1
#define NETWORK_WEIGHT_BYTES     1272
#define NETWORK_SCRATCH_BYTES    248
#define NETWORK_EXPORT           0x40d68230u

typedef struct {
    float buffer[62];
} network_scratch;

void network_predict(const float *input,
                     float *prediction,
                     float *uncertainty,
                     float *mutual_information,
                     network_scratch *scratch);

#ifdef __cplusplus
}
#endif

#endif
