"""The fast updates against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfbnn.training import updates
from tfbnn.weights.tracing import LARGE

SHAPES = {"large": [(LARGE // 64, 64), (5,)], "small": [(4, 3)]}
SCHEDULE = keras.optimizers.schedules.ExponentialDecay(1e-2, 2, 0.5)
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(1e-2, beta_1=0.8, epsilon=1e-3),
    "adam with a schedule": lambda: keras.optimizers.Adam(SCHEDULE),
    "adam with clipping": lambda: keras.optimizers.Adam(1e-2, clipnorm=0.1),
    "adam with amsgrad": lambda: keras.optimizers.Adam(1e-2, amsgrad=True),
    "adam with decay": lambda: keras.optimizers.Adam(1e-2, weight_decay=0.1),
    "adam with an average": lambda: keras.optimizers.Adam(1e-2, use_ema=True),
    "adam in turns": lambda: keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2),
    "adamw": lambda: keras.optimizers.AdamW(1e-2),
    "sgd": lambda: keras.optimizers.SGD(1e-2, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-2),
    "lion": lambda: keras.optimizers.Lion(1e-3),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2)),
}


def _variables(size, constraint=None):
    rng = np.random.default_rng(0)
    made = [keras.Variable(rng.normal(size=s).astype("float32")) for s in SHAPES[size]]
    for variable in made:
        variable.constraint = constraint
    return made


def _train(apply, optimizer, variables):
    rng = np.random.default_rng(1)
    # Some entries far below, some far above epsilon.
    scales = [10.0 ** rng.integers(-5, 2, v.shape) for v in variables]
    for _ in range(5):
        gradients = [
            tf.constant(rng.normal(size=v.shape) * s, tf.float32)
            for v, s in zip(variables, scales, strict=True)
        ]
        apply(optimizer, gradients, variables)
    return [variable.numpy() for variable in variables]


def _fast(optimizer, gradients, variables):
    if not optimizer.built:
        optimizer.build(variables)
    step = optimizer.__dict__.setdefault(
        "_test_step",
        tf.function(
            lambda *g: updates.apply_gradients(optimizer, list(g), variables), autograph=False
        ),
    )
    step(*gradients)


def _keras(optimizer, gradients, variables):
    optimizer.apply(gradients, variables)


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_five_steps_are_those_of_keras(name, size):
    fast, plain = OPTIMIZERS[name](), OPTIMIZERS[name]()
    values = _train(_fast, fast, _variables(size))
    for value, other in zip(values, _train(_keras, plain, _variables(size)), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)
    assert int(fast.iterations) == int(plain.iterations)
    for one, other in zip(fast.variables, plain.variables, strict=True):
        np.testing.assert_allclose(
            one.numpy().astype("float32"), other.numpy().astype("float32"), rtol=1e-4, atol=1e-6
        )


def test_a_constraint_holds():
    variables = _variables("large", keras.constraints.NonNeg())
    _train(_fast, keras.optimizers.Adam(1e-2), variables)
    assert all(np.all(variable.numpy() >= 0) for variable in variables)


def test_only_adam_as_it_is_goes_to_the_kernel(monkeypatch):
    seen = []
    monkeypatch.setattr(updates, "_apply_adam", lambda *args: seen.append(args))
    for name in OPTIMIZERS:
        _train(_fast, OPTIMIZERS[name](), _variables("large"))
        assert bool(seen) == (name in ("adam", "adam with a schedule")), name
        seen.clear()


def test_a_missing_gradient_leaves_its_variable_alone():
    variables = _variables("large")
    before = variables[1].numpy()

    @tf.function(autograph=False)
    def step():
        gradient = tf.ones(variables[0].shape)
        updates.apply_gradients(optimizer, [gradient, None], variables)

    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(variables)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        step()
    assert np.array_equal(variables[1].numpy(), before)
    assert not np.array_equal(variables[0].numpy(), _variables("large")[0].numpy())
