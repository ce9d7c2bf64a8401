"""Options of layers whose noise is small: for tests of something that noise would hide."""

import tfbnn

QUIET = {
    "kernel_prior": "normal",
    # Where a test makes biases random.
    "bias_prior": "normal",
    "kernel_posterior": tfbnn.families.Normal(initial_scale=0.0067),
    "bias_posterior": "point",
}
