"""Recipes: what they set, what they leave to the user, and what the optimizer then does."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.training import recipes
from tfbnn.training.progress import FitProgress
from tfbnn.training.step_factors import StepFactors, without_step_factors
from tfbnn.training.updates import apply_gradients
from tfbnn.weights.tracing import traced

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype("float32")
Y = (X[:, 0] > 0).astype(int)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def make_model(**options):
    keras.utils.set_random_seed(1)
    layers = [tfbnn.layers.DenseFlipout(4, activation="relu"), tfbnn.layers.DenseFlipout(2)]
    model = tfbnn.Sequential([keras.Input((3,)), *layers])
    model.compile(loss=LOSS, **options)
    return model


def kl_weights(model, **options):
    """The weight of the KL in each step of a `fit`, in units of 1 / N."""
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["kl_weight"])
    )
    model.fit(X, Y, batch_size=16, verbose=0, callbacks=[note], **options)
    # Keras gives the mean over the epoch so far.
    means = np.array(seen).reshape(-1, 4) * len(X)
    sums = means * np.arange(1, 5)
    return np.diff(sums, axis=1, prepend=0.0).ravel()


def test_adam_by_name_is_trained_as_the_elbo_says():
    model = make_model()
    assert model.objective.recipe == tfbnn.recipes.get("elbo")
    assert type(model.optimizer) is keras.optimizers.Adam
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert model.objective.beta == 1.0


def test_what_the_user_gives_is_left_alone():
    model = make_model(optimizer=keras.optimizers.SGD(0.5))
    assert model.objective.recipe is None
    assert make_model(optimizer="rmsprop").objective.recipe is None
    model = make_model(optimizer=keras.optimizers.SGD(0.5), recipe="calibrated")
    assert float(model.optimizer.learning_rate) == 0.5
    assert model.objective.recipe.learning_rate is None
    assert model.objective.beta == 0.3
    assert make_model(recipe="calibrated", beta=0.1).objective.beta == 0.1
    scheduled = make_model(recipe="calibrated", kl_schedule="minibatch_weights")
    assert scheduled.objective.recipe.warm_up == 0.0
    assert make_model(recipe=tfbnn.recipes.Recipe(beta=0.7)).objective.beta == 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"recipe": "bayes"},
            r"one of the names \['calibrated', 'elbo', 'sparse'\].*recipe='bayes'",
        ),
        ({"recipe": 3}, "`recipe` must be"),
        ({"recipe": "elbo", "beta": 0.3}, "not the ELBO.*recipe='elbo', beta=0.3"),
        ({"recipe": "calibrated", "beta": -1}, "`beta`"),
    ],
)
def test_bad_recipes(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(**options)


@pytest.mark.parametrize(
    "options", [{"beta": -1}, {"learning_rate": 0}, {"rho_factor": 0}, {"warm_up": 1.5}]
)
def test_bad_arguments_of_a_recipe(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`.*Received"):
        tfbnn.recipes.Recipe(**options)


def test_the_kl_warms_up_over_four_fifths_of_each_fit():
    model = make_model()
    expected = np.minimum(1, np.arange(1, 13) / (0.8 * 12))
    np.testing.assert_allclose(kl_weights(model, epochs=3), expected, rtol=1e-4)
    # The next `fit` starts its own; `initial_epoch` goes on.
    np.testing.assert_allclose(kl_weights(model, epochs=3), expected, rtol=1e-4)
    np.testing.assert_allclose(
        kl_weights(model, epochs=3, initial_epoch=1), expected[4:], rtol=1e-4
    )


def test_an_interrupted_fit_resumes_its_schedules(tmp_path):
    def stop(epoch, logs):
        if epoch == 0:
            raise KeyboardInterrupt

    def fit(model, *callbacks):
        resume = tfbnn.callbacks.ResumeTraining(tmp_path)
        model.fit(X, Y, batch_size=16, epochs=3, verbose=0, callbacks=[resume, *callbacks])

    def after_another():
        # So that the schedules do not begin where the optimizer does.
        model = make_model()
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
        return model

    whole = after_another()
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(after_another(), keras.callbacks.LambdaCallback(on_epoch_end=stop))
    again = make_model()
    fit(again)
    for one, other in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_step_factors():
    progress = FitProgress()
    recipe = tfbnn.recipes.Recipe(warm_up=0.25)
    # Without a `fit` there is nothing to be at the beginning of.
    assert float(recipe.step_factor(progress, 5)) == float(recipe.kl_factor(progress, 5)) == 1.0
    progress.num_steps = 8
    progress.begin(100)
    found = [float(recipe.step_factor(progress, step)) for step in (100, 104, 108, 120)]
    np.testing.assert_allclose(found, [1, 0.5, 0, 0], atol=1e-6)
    found = [float(recipe.kl_factor(progress, step)) for step in (100, 101, 102)]
    np.testing.assert_allclose(found, [0.5, 1, 1])


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.1),
    "sgd with momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1),
    "accumulated": lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=2),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("size", [3, 2**16])
def test_a_factor_makes_the_steps_of_a_variable_so_many_times_as_long(name, size):
    """On both paths of Adam, and where XLA compiles the update."""
    factors = [1.0, 3.0, 0.5]
    variables = [keras.Variable(tf.zeros(size)) for _ in factors]
    optimizer = OPTIMIZERS[name]()
    optimizer.build(variables)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    keys = [inner._var_key(variable) for variable in variables]
    StepFactors(optimizer, lambda key: tf.constant(factors[keys.index(key)])).install()

    @traced
    def step():
        apply_gradients(optimizer, [tf.ones(size)] * 3, variables)

    for _ in range(4):
        step()
    moved = np.array([float(variable.numpy()[-1]) for variable in variables])
    assert moved[0] < 0
    np.testing.assert_allclose(moved / moved[0], factors, rtol=1e-5)
    without_step_factors(optimizer)
    assert "update_step" not in vars(inner)


@pytest.mark.parametrize("size", [4, 256])
def test_replicas_take_the_steps_of_one_device(size, mirrored):
    """Without noise; 256 units are updated by the fused Adam."""

    def trained(strategy):
        with strategy.scope():
            keras.utils.set_random_seed(1)
            laws = dict.fromkeys(
                ["kernel_posterior", "bias_posterior"], tfbnn.families.Normal(1e-6)
            )
            layers = [tfbnn.layers.DenseFlipout(size, **laws) for _ in range(2)]
            model = tfbnn.Sequential([keras.Input((3,)), *layers])
            model.compile(loss=LOSS)
        model.fit(X, Y, batch_size=16, epochs=4, shuffle=False, verbose=0)
        return model

    one, two = trained(tf.distribute.get_strategy()), trained(mirrored)
    for weight, other in zip(one.get_weights(), two.get_weights(), strict=True):
        # Adam makes a step of any gradient, of one that is rounding too.
        np.testing.assert_allclose(weight, other, atol=2e-3)
    pulls = [model.objective.last_steps.mean_pull()[0] for model in (one, two)]
    assert pulls[0] == pytest.approx(pulls[1], abs=0.05)


def test_steps_of_wide_layers_are_shorter_the_more_inputs_they_have():
    """Adam's first step is as long as its rate, in every weight."""
    layers = [tfbnn.layers.DenseFlipout(512), tfbnn.layers.DenseFlipout(2)]
    model = tfbnn.Sequential([keras.Input((3,)), *layers])
    model.compile(loss=LOSS)
    with warnings.catch_warnings(record=True):
        before = [np.array(v) for layer in layers for v in layer.trainable_variables]
        model.fit(X, Y, batch_size=64, verbose=0)
    after = [np.array(v) for layer in layers for v in layer.trainable_variables]
    names = [v.path for layer in layers for v in layer.trainable_variables]
    for name, one, other in zip(names, before, after, strict=True):
        moved = np.median(np.abs(other - one))
        wide = "dense_flipout_1/kernel" in name
        expected = 1e-2 * (3 if "rho" in name else 1) * (128 / 512 if wide else 1)
        assert moved == pytest.approx(expected, rel=0.05), name


def test_the_line_of_fit_says_so(capsys):
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(512)])
    model.add(tfbnn.layers.DenseFlipout(2))
    for optimizer, says in (("adam", True), (keras.optimizers.Adam(), False)):
        model.compile(optimizer, loss=LOSS)
        model.fit(X, Y, verbose=2)
        line = capsys.readouterr().out.splitlines()[0]
        assert ("(x 128 / fan-in of kernels above 128)" in line) == says


def test_after_a_fit_its_schedule_is_over():
    model = make_model()
    model.fit(X, Y, epochs=2, verbose=0)
    before = [np.array(v) for v in model.trainable_variables]
    model.train_on_batch(X, Y)
    moved = [np.abs(v - b).max() for v, b in zip(model.trainable_variables, before, strict=True)]
    assert min(moved) > 1e-4


def test_a_training_step_of_the_user_s_own_takes_the_same_steps():
    class Own(tfbnn.Sequential):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    models = [make_model(), make_model()]
    starts = [np.array(layer.kernel.rho_variable) for layer in models[0].layers]
    own = Own(models[1].layers)
    own.compile(loss=LOSS)
    for model in (models[0], own):
        keras.utils.set_random_seed(2)
        model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    # The same up to the noise: only the first step is of the same draws, the lengths are Adam's.
    moves = [
        [
            np.abs(np.array(layer.kernel.rho_variable) - start).max()
            for layer, start in zip(model.layers, starts, strict=True)
        ]
        for model in (models[0], own)
    ]
    np.testing.assert_allclose(moves[0], moves[1], rtol=0.2)


def test_rho_takes_longer_steps_and_the_rate_stays_the_user_s():
    model = make_model(recipe="calibrated", optimizer=keras.optimizers.SGD(0.1))
    before = [np.array(v) for v in model.trainable_variables]
    model.num_examples = 64
    model.train_on_batch(X[:16], Y[:16])
    plain = make_model(optimizer=keras.optimizers.SGD(0.1), beta=0.3)
    plain.num_examples = 64
    plain.train_on_batch(X[:16], Y[:16])
    pairs = zip(model.trainable_variables, plain.trainable_variables, before, strict=True)
    for variable, other, start in pairs:
        factor = 3.0 if variable.name.endswith("rho") else 1.0
        np.testing.assert_allclose(variable - start, factor * (other - start), rtol=2e-3, atol=1e-7)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_a_schedule_needs_a_known_number_of_steps():
    def batches():
        for _ in range(2):
            yield X[:16], Y[:16]

    with pytest.raises(ValueError, match="A recipe needs the number of batches.*steps_per_epoch"):
        make_model(recipe="calibrated").fit(batches(), num_examples=32, verbose=0)
    # "adam" by name, which nobody asked for a recipe, does without.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")
        make_model().fit(batches(), num_examples=32, verbose=0)


def test_fit_says_what_the_recipe_does(capsys):
    make_model(recipe="calibrated").fit(X, Y, batch_size=16, epochs=3, verbose=2)
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("Tempered objective, not the ELBO: ") and "beta=0.3" in line
    recipe = "learning rate 0.01 falling to 0 over 12 steps, steps of rho x 3, KL warm-up over 10"
    assert recipe in line
    make_model(optimizer=keras.optimizers.Adam(), recipe="elbo").fit(X, Y, epochs=2, verbose=2)
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("ELBO: ") and "learning rate" not in line


def test_fit_calls_weighted_likelihoods_no_elbo(capsys):
    model = make_model()
    model.compile("adam", loss=model.loss, loss_weights=[0.5])
    model.fit(X, Y, epochs=2, verbose=2)
    assert capsys.readouterr().out.startswith("Weighted objective, not the ELBO: ")


def test_files_keep_the_recipe(tmp_path):
    for options in ({}, {"recipe": "calibrated"}, {"optimizer": "sgd"}):
        model = make_model(**options)
        model.fit(X, Y, epochs=1, verbose=0)
        model.save(tmp_path / "model.keras")
        loaded = tfbnn.load_model(tmp_path / "model.keras")
        assert loaded.objective.recipe == model.objective.recipe
        assert loaded.objective.recipe_is_given == model.objective.recipe_is_given
        assert loaded.objective.beta == model.objective.beta
        loaded.fit(X, Y, epochs=1, verbose=0)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_recipes_are_data(name):
    recipe = recipes.get(name)
    assert recipes.get(keras.saving.serialize_keras_object(recipe)) == recipe
    assert recipes.get(recipe) is recipe and recipes.get(None) is None


def test_callbacks_that_set_the_learning_rate(capsys):
    model = make_model()
    callback = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0025)
