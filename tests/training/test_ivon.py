"""`tfbnn.optimizers.IVON`: the algorithm by hand, conjugate models, replicas, files and errors."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.posterior.routes import posterior_of
from tfbnn.training import drawn_steps
from tfbnn.weights import noise

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = RNG.integers(0, 2, 24)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def optimizer(**options):
    return tfbnn.optimizers.IVON(**{"learning_rate": 0.1, "seed": 1, **options})


def network(made=None, **options):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(4, "tanh"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(2),
    ]
    model = tfbnn.Sequential([keras.Input((3,)), *layers])
    model.compile(made or optimizer(), loss=LOSS, **options)
    return model


def linear(beta=1.0, num_draws=1, **options):
    """A linear regression with a known noise of 0.5."""
    model = tfbnn.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    loss = tfbnn.losses.NormalNLL(scale=0.5)
    model.compile(optimizer(**options), loss=loss, beta=beta, num_draws=num_draws)
    return model


@pytest.mark.parametrize(("given", "counted"), [(0, 24), (1, 34), (2, 68)])
def test_few_rows_count_as_a_number_of_examples_for_each_weight(given, counted):
    """24 rows, and 34 weights that are trained."""
    model = network(optimizer(examples_per_weight=given, prior_scale=0.5), beta=0.5)
    model.fit(X, Y, epochs=0, verbose=0)
    model.optimizer.build(model.trainable_variables)
    delta = 1 / (counted / 0.5 * 0.5**2)
    for scale in model.optimizer.scales(model.trainable_variables):
        np.testing.assert_allclose(scale, 1 / np.sqrt(counted / 0.5 * (0.1 + delta)), rtol=1e-5)


def test_by_default_the_prior_is_that_of_the_fan_in():
    model = network()
    model.optimizer.build(model.trainable_variables)
    model.objective.set_num_examples(100)
    for variable, scale in zip(
        model.trainable_variables,
        model.optimizer.scales(model.trainable_variables),
        strict=True,
    ):
        fan_in = np.prod(variable.shape[:-1])
        prior = tfbnn.priors.FanIn().at_fan_in(int(fan_in)).scale
        np.testing.assert_allclose(scale, 1 / np.sqrt(100 * 0.1 + prior**-2), rtol=1e-5)


@pytest.mark.parametrize("num_draws", [1, 3])
def test_steps_by_hand(num_draws):
    """Algorithm 1 of the paper in NumPy, at the draws of the optimizer, whose loss has a gradient
    in closed form."""
    n, beta, prior_scale, start, beta_1, beta_2, rate, clip = 24, 0.5, 0.7, 0.4, 0.9, 0.95, 0.1, 3
    options = {"prior_scale": prior_scale, "initial_hessian": start, "beta_2": beta_2, "clip": clip}
    model = linear(beta, num_draws, **options)
    y = (X @ [[1.0], [-2.0], [0.5]]).astype("float32")
    m = model.get_weights()[0].astype("float64")
    counted = n / beta
    delta = 1 / (counted * prior_scale**2)
    h, g = np.full_like(m, start), np.zeros_like(m)
    for step in range(4):
        sigma = 1 / np.sqrt(counted * (h + delta))
        seed = noise.fold_in(noise.fold_in(noise.as_seed(1), step), 0)
        gradient, found = np.zeros_like(m), np.zeros_like(m)
        for draw in range(num_draws):
            (own,) = noise.split(noise.fold_in(seed, draw), 1)
            e = noise.standard_normal(m.shape, own).numpy()
            of_draw = X.T @ (X @ (m + sigma * e) - y) / (n * 0.5**2)
            gradient += of_draw / num_draws
            found += of_draw * e / sigma / num_draws
        g = beta_1 * g + (1 - beta_1) * gradient
        correction = 0.5 * (1 - beta_2) ** 2 * (h - found) ** 2 / (h + delta)
        h = beta_2 * h + (1 - beta_2) * found + correction
        direction = (g / (1 - beta_1 ** (step + 1)) + delta * m) / (h + delta)
        m = m - rate * np.clip(direction, -clip, clip)
    model.fit(X, y, batch_size=24, epochs=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], m, rtol=1e-4, atol=1e-6)
    (scale,) = model.optimizer.scales(model.trainable_variables)
    np.testing.assert_allclose(scale, 1 / np.sqrt(counted * (h + delta)), rtol=1e-4)


@pytest.mark.parametrize("design", ["orthogonal", "correlated"])
def test_a_linear_regression_has_its_mean_field_optimum(design):
    """Of a normal law with independent weights the best has the exact mean, and the precisions
    that are on the diagonal of the exact one."""
    rng = np.random.default_rng(3)
    x = np.linalg.qr(rng.normal(size=(60, 3)))[0] * np.sqrt(60)
    if design == "correlated":
        x = x @ [[1.0, 0.6, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.5]]
    x = x.astype("float32")
    y = (x @ [[1.0], [-0.5], [2.0]] + 0.5 * rng.normal(size=(60, 1))).astype("float32")
    keras.utils.set_random_seed(0)
    steps = 1500
    rate = keras.optimizers.schedules.CosineDecay(0.2, steps)
    model = linear(learning_rate=rate, prior_scale=1.0, clip=0.5, num_draws=8)
    # All rows again in each step; an epoch of one step would be mostly what Keras does around it.
    again = [np.tile(rows, (100, 1)) for rows in (x, y)]
    model.num_examples = 60
    model.fit(*again, batch_size=60, epochs=steps // 100, shuffle=False, num_examples=60, verbose=0)
    precision = x.T @ x / 0.25 + np.eye(3)
    exact = np.linalg.solve(precision, x.T @ y / 0.25)
    deviation = 1 / np.sqrt(np.diag(precision))
    (scale,) = model.optimizer.scales(model.trainable_variables)
    # A tenth of a posterior standard deviation; the Hessian is a mean over 8 draws of 230 steps.
    assert (np.abs(model.get_weights()[0] - exact) < 0.1 * deviation[:, None]).all()
    np.testing.assert_allclose(scale[:, 0], deviation, rtol=4 * 0.5 * np.sqrt(2 / (8 * 230)))


def test_validation_and_files_of_keras_see_the_mean(tmp_path):
    model = network()
    history = model.fit(X, Y, batch_size=8, epochs=2, validation_data=(X, Y), verbose=0).history
    loss = model.evaluate(X, Y, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss if isinstance(loss, float) else loss[0])
    draws = {"num_samples": 6, "seed": 0, "verbose": 0}
    expected = tfbnn.predict(model, X, **draws)
    assert expected.mutual_information.min() > 0
    model.save(tmp_path / "model.keras")
    loaded = tfbnn.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(tfbnn.predict(loaded, X, **draws).prediction, expected.prediction)
    # Training goes on where it was.
    for one in (model, loaded):
        one.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_posterior_follows_the_training():
    model = tfbnn.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer(), loss=LOSS)
    model.fit(X, Y, verbose=0)
    posterior = posterior_of(model)
    assert type(posterior) is tfbnn.posteriors.IVON and posterior_of(model) is posterior
    before, laws = posterior.draw(noise.as_seed(0)), posterior.with_laws()
    assert posterior.with_laws() is laws
    model.fit(X, Y, verbose=0)
    after = posterior.draw(noise.as_seed(0))
    assert not np.allclose(before[0], after[0])
    assert posterior.with_laws() is not laws


def test_equal_runs_end_in_equal_bits():
    ends = []
    for _ in range(2):
        model = network(num_draws=2)
        model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        ends.append([weight.tobytes() for weight in model.get_weights()])
    assert ends[0] == ends[1]


def test_moving_statistics_are_learnt():
    model = network()
    moving = model.layers[1].moving_mean
    before = moving.numpy()
    model.fit(X, Y, verbose=0)
    assert not np.allclose(moving.numpy(), before)


def test_a_compiled_step_is_the_same():
    models = [network(jit_compile=jit) for jit in (False, True)]
    for model in models:
        model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_large_weights_go_through_a_compiled_pass():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(256, "relu"), keras.layers.Dense(256), keras.layers.Dense(2)]
    model = tfbnn.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer(), loss=LOSS)
    x, y = np.tile(X, (400, 1)), np.tile(Y, 400)
    history = model.fit(x, y, batch_size=400, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for scale in model.optimizer.scales(model.trainable_variables):
        assert np.isfinite(scale).all() and (np.asarray(scale) > 0).all()


@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_beta_tempers(beta):
    """The law before the first step, in closed form: the likelihood counts `num_examples / beta`
    times. Without a Hessian it is the prior, whatever the temperature."""
    n = 24 / beta
    for hessian in (0.4, 1e-9):
        model = linear(beta, initial_hessian=hessian, prior_scale=0.3)
        model.num_examples = 24
        model.optimizer.build(model.trainable_variables)
        (scale,) = model.optimizer.scales(model.trainable_variables)
        np.testing.assert_allclose(scale, 1 / np.sqrt(n * hessian + 1 / 0.3**2), rtol=1e-5)


def test_replicas_draw_apart_and_end_alike(mirrored, monkeypatch):
    drawn = []
    original = noise.standard_normal
    with mirrored.scope():
        model = network(run_eagerly=True)

    def noted(shape, seed):
        drawn.append((tuple(shape), original(shape, seed).numpy()))
        return original(shape, seed)

    monkeypatch.setattr(drawn_steps.noise, "standard_normal", noted)
    model.fit(X[:8], Y[:8], batch_size=8, shuffle=False, verbose=0)
    kernels = [value for shape, value in drawn if shape == (3, 4)]
    assert len(kernels) == 2 and not np.allclose(*kernels)
    for variable in model.trainable_variables:
        one, other = mirrored.experimental_local_results(variable.value)
        np.testing.assert_array_equal(one, other)


def bayesian():
    return tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.Dense(2, name="random")])


def penalised():
    dense = keras.layers.Dense(2, kernel_regularizer="l2")
    return tfbnn.Sequential([keras.Input((3,)), dense])


def test_models_that_it_is_not_for():
    with pytest.raises(ValueError, match=r"take the layers of Keras.*layers \['random'\]"):
        bayesian().compile(optimizer(), loss=LOSS)
    with pytest.raises(ValueError, match="prior of its own.*regularizers of"):
        penalised().compile(optimizer(), loss=LOSS)
    with pytest.raises(ValueError, match="no KL in its loss.*kl_schedule="):
        network(kl_schedule=tfbnn.schedules.LinearWarmUp(3))
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plain.compile(optimizer(), loss=LOSS)
    with pytest.raises(TypeError, match="needs a model of tfbnn.*`tfbnn.Sequential`"):
        plain.fit(X, Y, verbose=0)
    adam = network("adam")
    with pytest.raises(ValueError, match=r"compile the model with `tfbnn.optimizers.IVON\(\)`"):
        tfbnn.posteriors.IVON(adam)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior_scale": 0.0}, "`prior_scale`"),
        ({"initial_hessian": -1.0}, "`initial_hessian`"),
        ({"beta_1": 1.0}, "`beta_1`"),
        ({"weight_decay": 0.1}, "weight_decay"),
        ({"global_clipnorm": 1.0}, "global_clipnorm"),
        ({"beta_2": -0.1}, "`beta_2`"),
        ({"clip": 0.0}, "`clip`"),
        ({"seed": 0.5}, "`seed`"),
    ],
)
def test_bad_arguments_are_errors(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tfbnn.optimizers.IVON(**options)
