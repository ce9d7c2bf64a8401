"""Moments: mean and variance of every number in a network, in one pass and without a draw.

Each layer takes the mean and the variance of its inputs and gives those of its outputs, as if the
numbers that it adds up or compares were independent and normal. A linear layer `f` whose weights
have mean `W` and variance `S` gives, from inputs of mean `m` and variance `v`,

    mean = f(m, W) + b              variance = f(m**2 + v, S) + f(v, W**2) + variance of b

which is exact for independent inputs. What is lost is the dependence between units.

Reference:
    Wu et al. 2019, "Deterministic Variational Inference for Robust Bayesian Neural Networks", and
    Haussmann et al. 2019, "Sampling-Free Variational Inference of Bayesian Neural Networks by
    Variance Backpropagation".
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfbnn.layers.activation_order import delayed_activations
from tfbnn.layers.keras_layers import record_of
from tfbnn.layers.precision import in_float32
from tfbnn.layers.random_maps import RandomMap
from tfbnn.layers.records import AnyLinear
from tfbnn.layers.steps import Step, Steps
from tfbnn.prediction import moment_rules, normals
from tfbnn.prediction.normals import Moments
from tfbnn.prediction.points import standard_points

# The linear part of a variational layer, on moments.
LinearRule = Callable[[RandomMap, Moments], Moments]

INSTEAD = "Use `uncertainty='monte_carlo'` or 'ensemble', which compute every layer as Keras does."


def propagate(steps: Steps, inputs: tf.Tensor, linear: LinearRule) -> Moments:
    """Moments of the output of a network for rows of inputs, which are certain.

    If it ends in a softmax or sigmoid they are those before it, which is for values, not for
    moments (see `outputs_at_points`). `linear` is what is done with a random map, such as
    `current_weights`. A layer without a rule is a `ValueError` that names it.
    """
    check(steps)
    values = {steps.input: Moments(inputs, None)}
    delayed = delayed_activations(steps)
    waiting = {pooling: step for step, pooling in delayed.items()}
    with in_float32(*steps.layers):
        for step in steps:
            output = _before_activation(step, [values[v] for v in step.inputs], linear)
            if step not in delayed and not _ends(step, steps):
                last = record_of(waiting.get(step, step))
                output = moment_rules.activate(last.activation, output)
            values[step.output] = output
    return values[steps.output]


def check(steps: Steps, instead: str = INSTEAD) -> None:
    """Raise a `ValueError` that names the layer if moments cannot pass through one.

    The message ends in what to do `instead`.
    """
    layers = [step.layer for step in steps]
    for step in steps:
        if layers.count(step.layer) > 1 and step.layer.weights:
            raise ValueError(
                f"Moments take every call of a layer for independent, and {step.name} is called "
                f"more than once. {instead} Received: {layers.count(step.layer)} calls"
            )
        record = record_of(step)
        known = isinstance(record, AnyLinear) and record.is_variational
        known = known or moment_rules.has_rule(record)
        activation = record.activation
        if not known or not (_ends(step, steps) or moment_rules.has_activation_rule(activation)):
            raise ValueError(
                f"Moments cannot pass through the layer {step.name}"
                f"{moment_rules.activation_in_words(activation)}. {instead} "
                f"Received: a layer of type {type(step.layer).__name__}"
            )


def outputs_at_points(
    steps: Steps, inputs: tf.Tensor, linear: LinearRule, num_points: int
) -> tf.Tensor:
    """Outputs of the network that stand for its whole law, as draws would, but always the same.

    Their mean and variance over the points, the first axis, are the moments. What is answered for
    by itself, such as each place of a sequence, has the same points.
    """
    mean, variance = propagate(steps, inputs, linear)
    features = mean.shape[-1]
    shape = (num_points, *[1] * (len(mean.shape) - 1), features)
    points = standard_points(num_points, features).reshape(shape)
    root = 0.0 if variance is None else normals.root(variance)
    last = steps.steps[-1]
    finish = record_of(last).activation.function if _ends(last, steps) else tf.identity
    with in_float32(*steps.layers):
        return finish(mean + root * points)


def current_weights(random_map: RandomMap, x: Moments) -> Moments:
    """A random map with the weights that it has now."""
    kernel, bias, linear_map = random_map.kernel, random_map.bias, random_map.linear_map
    return linear_moments(
        linear_map,
        x,
        kernel.loc,
        lambda squares: linear_map(squares, tf.square(kernel.scale)),
        lambda variance: linear_map(variance, tf.square(kernel.loc)),
        None if bias is None else bias.loc,
        None if bias is None or not bias.is_random else tf.square(bias.scale),
    )


def linear_moments(
    linear_map: Any,
    x: Moments,
    kernel: tf.Tensor,
    spread: Callable[[tf.Tensor], tf.Tensor],
    carried: Callable[[tf.Tensor], tf.Tensor],
    bias: tf.Tensor | None,
    bias_variance: tf.Tensor | None,
) -> Moments:
    """Moments of `f(x, w) + b`.

    Args:
        linear_map: `f`, of `tfbnn.layers.linear_maps`.
        x: Moments of the inputs.
        kernel: Means of the weights.
        spread: `f(., S)` with the variances of the weights.
        carried: `f(., W**2)` with the squares of their means.
        bias, bias_variance: Means and variances of the bias; None if there are none.
    """
    mean = linear_map(x.mean, kernel)
    squares = tf.square(x.mean)
    if x.variance is None:
        variance = spread(squares)
    else:
        variance = spread(squares + x.variance) + carried(x.variance)
    shape = linear_map.bias_shape(len(mean.shape))
    if bias is not None:
        mean += tf.reshape(bias, shape)
    if bias_variance is not None:
        variance += tf.reshape(bias_variance, shape)
    return Moments(mean, variance)


def _before_activation(step: Step, taken: list[Moments], linear: LinearRule) -> Moments:
    record = record_of(step)
    if record.is_variational:
        return linear(step.layer.random_map, *taken)
    return moment_rules.apply(record, taken)


def _ends(step: Step, steps: Steps) -> bool:
    """Whether the network ends here in an activation that gives probabilities."""
    is_last = step.output is steps.output
    return is_last and record_of(step).activation.name in ("sigmoid", "softmax")
