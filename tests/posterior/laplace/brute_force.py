"""The curvature by Jacobians of every row, as its definition says."""

import numpy as np
import tensorflow as tf

from tfbnn.layers.keras_internals import mask_of
from tfbnn.training.plain_models import likelihoods_of


def by_row(model, variables, x):
    """`(Jacobian by each variable, curvature)` of each row and output: (K, ...), (K, K)."""
    for row in range(len(x)):
        with tf.GradientTape(persistent=True) as tape:
            outputs = tf.nest.flatten(model(x[row : row + 1], training=False))
            flat = [tf.reshape(one, [-1]) for one in outputs]
        for likelihood, output, one in zip(likelihoods_of(model), outputs, flat, strict=True):
            values = [variable.value for variable in variables]
            zero = tf.UnconnectedGradients.ZERO
            # Vectorised, it is wrong for convolutions with groups.
            jacobians = tape.jacobian(one, values, zero, experimental_use_pfor=False)
            small = np.asarray(likelihood.curvature(output))[0]
            mask = mask_of(output)
            counts = np.ones(small.shape[:-2]) if mask is None else np.asarray(mask[0])
            size = small.shape[-1]
            whole = np.zeros((len(one), len(one)))
            for event, index in enumerate(np.ndindex(small.shape[:-2])):
                part = slice(event * size, (event + 1) * size)
                whole[part, part] = small[index] * counts[index]
            yield [np.asarray(tf.convert_to_tensor(j), np.float64) for j in jacobians], whole


def curvature(parts, model, x):
    """`sum of J^T C J` over all weights, in the order of the matrices of the parts."""
    variables = [variable for part in parts for variable in part.variables]
    total = 0.0
    for jacobians, whole in by_row(model, variables, x):
        rest, columns = iter(jacobians), []
        for part in parts:
            given = [next(rest) for _ in part.variables]
            rows = [part.matrix(list(map(tf.constant, one))) for one in zip(*given, strict=True)]
            columns.append(np.asarray(rows).reshape(len(whole), -1))
        jacobian = np.concatenate(columns, axis=1)
        total = total + jacobian.T @ whole @ jacobian
    return total
