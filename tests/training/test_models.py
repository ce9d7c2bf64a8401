"""`fit` maximises the exact ELBO, or says what is missing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.layers import variational_weights
from tfbnn.weights import noise

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = RNG.integers(0, 2, 40)

# Where a test is not about the step, it runs eagerly: a graph would take longer to trace than its
# two steps.


# The priors of `_kl_by_hand`.
STANDARD = {"kernel_prior": "normal", "bias_prior": "normal"}


def _model(layer=tfbnn.layers.DenseFlipout, posterior="normal", **compile_options):
    posteriors = {"kernel_posterior": posterior, "bias_posterior": posterior}
    model = tfbnn.Sequential([keras.Input((3,)), layer(2, seed=1, **STANDARD, **posteriors)])
    model.compile(keras.optimizers.SGD(0.0), loss=LOGITS, **compile_options)
    return model


def _kl_by_hand(model):
    total = 0.0
    for weight in variational_weights(model):
        loc, scale = weight.loc.numpy(), weight.scale.numpy()
        total += np.sum(0.5 * (loc**2 + scale**2 - 1) - np.log(scale))
    return total


def test_the_loss_is_nll_plus_kl_over_the_number_of_examples():
    model = _model()
    logs = model.fit(X, Y, verbose=0).history
    assert logs["kl"][0] == pytest.approx(_kl_by_hand(model), rel=1e-5)
    assert logs["kl_weight"][0] == pytest.approx(1 / 40)
    assert logs["weighted_kl"][0] == pytest.approx(logs["kl"][0] / 40, rel=1e-5)
    assert logs["loss"][0] == pytest.approx(logs["nll"][0] + logs["kl"][0] / 40, rel=1e-5)


def test_evaluate_is_the_nll_at_the_posterior_mean():
    model = _model()
    logs = model.evaluate(X, Y, return_dict=True, verbose=0)
    logits = X @ model.layers[0].kernel.loc.numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(40), Y]).mean()
    assert logs["nll"] == logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert set(logs) == {"loss", "nll"}
    assert np.array_equal(model.predict(X, verbose=0), model.predict(X, verbose=0))


def test_fit_says_what_it_uses(capsys):
    _model(beta=0.5, run_eagerly=True).fit(X, Y, batch_size=16, verbose=2)
    line = capsys.readouterr().out.splitlines()[0]
    for part in ("num_examples=40", "beta=0.5", "3 batches", "kl_weight=0.0125"):
        assert part in line
    model = Subclass()
    model.compile("adam", loss=LOGITS, run_eagerly=True)
    model.fit(X, Y, verbose=2)
    assert "random weights" not in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    "data, options, expected",
    [
        ("arrays", {"validation_split": 0.25}, 30),
        ("dataset", {}, 40),
        ("repeated", {}, 80),
        ("filtered", {}, int((Y == 0).sum())),
        ("generator", {"steps_per_epoch": 2, "num_examples": 123}, 123),
    ],
)
@pytest.mark.filterwarnings("ignore:.*shuffle:UserWarning", "ignore:Your input ran out:UserWarning")
def test_number_of_examples(data, options, expected):
    model = _model(run_eagerly=True)
    model.fit(*_data(data), verbose=0, **options)
    assert model.num_examples == expected


def _data(kind):
    rows = tf.data.Dataset.from_tensor_slices((X, Y))
    if kind == "arrays":
        return X, Y
    if kind == "generator":
        return (((X[:8], Y[:8]) for _ in range(2)),)
    if kind == "filtered":
        return (rows.filter(lambda x, y: y == 0).batch(7),)
    if kind == "endless":
        return (rows.batch(8).repeat(),)
    return (rows.batch(16).repeat(2 if kind == "repeated" else 1),)


@pytest.mark.parametrize(
    "data, options",
    [
        ("generator", {"steps_per_epoch": 2}),
        ("endless", {"steps_per_epoch": 2}),
        ("dataset", {"steps_per_epoch": 2}),
    ],
)
def test_an_unknown_number_of_examples_is_an_error_that_says_what_to_pass(data, options):
    with pytest.raises(ValueError, match="num_examples"):
        _model().fit(*_data(data), verbose=0, **options)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return X[index * 10 : index * 10 + 10], Y[index * 10 : index * 10 + 10]


def test_a_py_dataset_needs_the_number_of_examples():
    with pytest.raises(ValueError, match="a Batches is not known: pass `num_examples=`"):
        _model().fit(Batches(), verbose=0)
    logs = _model(kl_schedule="minibatch_weights").fit(Batches(), num_examples=40, verbose=0)
    assert logs.history["kl_weight"][0] == pytest.approx(1 / 40, rel=1e-4)


def test_the_number_of_one_data_set_is_not_taken_for_another_s():
    rows = tf.data.Dataset.from_tensor_slices((X, Y))
    model = _model()
    model.fit(rows.batch(8), verbose=0)
    model.fit(rows.take(20).batch(8), verbose=0)
    assert model.num_examples == 20
    with pytest.raises(ValueError, match="num_examples"):
        model.fit(*_data("generator"), steps_per_epoch=2, verbose=0)
    model.num_examples = 123
    model.fit(*_data("generator"), steps_per_epoch=2, verbose=0)
    assert model.num_examples == 123


def test_a_schedule_needs_the_number_of_batches():
    model = _model(kl_schedule="minibatch_weights")
    model.num_examples = 40
    with pytest.raises(ValueError, match="number of batches"):
        model.train_on_batch(X, Y)
    with pytest.raises(ValueError, match="number of batches"):
        model.fit(*_data("generator"), num_examples=40, verbose=0)


def test_train_on_batch_needs_the_number_of_examples():
    model = _model()
    with pytest.raises(ValueError, match="model.num_examples = "):
        model.train_on_batch(X, Y)
    model.num_examples = 400
    loss = model.train_on_batch(X, Y, return_dict=True)
    assert loss["kl_weight"] == pytest.approx(1 / 400)


def test_another_number_of_examples_takes_effect_in_the_next_fit():
    model = _model()
    model.fit(X, Y, verbose=0)
    logs = model.fit(X[:20], Y[:20], verbose=0).history
    assert logs["kl_weight"][0] == pytest.approx(1 / 20)


def test_sequences_sum_over_their_steps_and_leave_masked_ones_out():
    steps = RNG.normal(size=(6, 5, 3)).astype("float32")
    labels = RNG.integers(0, 2, (6, 5))
    model = tfbnn.Sequential([keras.Input((5, 3)), tfbnn.layers.DenseFlipout(2)])
    model.compile("adam", loss=LOGITS)
    whole = model.evaluate(steps, labels, return_dict=True, verbose=0)["nll"]
    parts = [model.layers[0](steps[:, t : t + 1]).numpy()[:, 0] for t in range(5)]
    one_by_one = sum(float(LOGITS(labels[:, t], parts[t])) for t in range(5))
    assert whole == pytest.approx(one_by_one, rel=1e-5)

    masked = tfbnn.Sequential(
        [keras.Input((5, 3)), keras.layers.Masking(), tfbnn.layers.DenseFlipout(2)]
    )
    masked.compile("adam", loss=LOGITS)
    masked.layers[1].set_weights(model.layers[0].get_weights())
    steps[:, 3:] = 0.0
    shorter = masked.evaluate(steps, labels, return_dict=True, verbose=0)["nll"]
    assert shorter == pytest.approx(
        sum(float(LOGITS(labels[:, t], parts[t])) for t in range(3)), rel=1e-5
    )


def test_a_sample_weight_multiplies_the_log_likelihood():
    model = _model()
    weights = np.arange(40, dtype="float32")
    weighted = model.evaluate(X, Y, sample_weight=weights, return_dict=True, verbose=0)["nll"]
    rows = _nll_of_rows(model)
    assert weighted == pytest.approx(np.mean(weights * rows), rel=1e-4)
    by_class = _model(posterior=tfbnn.families.Normal(1e-9))
    logs = by_class.fit(X, Y, batch_size=40, class_weight={0: 2.0, 1: 0.5}, verbose=0).history
    expected = np.mean(np.where(Y == 0, 2.0, 0.5) * _nll_of_rows(by_class))
    assert logs["nll"][0] == pytest.approx(expected, rel=1e-4)


def _nll_of_rows(model):
    return keras.ops.sparse_categorical_crossentropy(Y, model(X), from_logits=True).numpy()


def test_a_sample_weight_of_steps_multiplies_each():
    steps = RNG.normal(size=(6, 5, 3)).astype("float32")
    labels = RNG.integers(0, 2, (6, 5))
    weights = RNG.uniform(size=(6, 5)).astype("float32")
    model = tfbnn.Sequential([keras.Input((5, 3)), tfbnn.layers.DenseFlipout(2)])
    model.compile("adam", loss=LOGITS)
    logs = model.evaluate(steps, labels, sample_weight=weights, return_dict=True, verbose=0)
    nll = keras.ops.sparse_categorical_crossentropy(labels, model(steps), from_logits=True)
    assert logs["nll"] == pytest.approx(np.mean(np.sum(weights * nll, axis=1)), rel=1e-5)


def test_several_outputs_add_up_under_their_names():
    inputs = keras.Input((3,))
    outputs = {
        "label": tfbnn.layers.DenseFlipout(2, name="label")(inputs),
        "amount": tfbnn.layers.DenseFlipout(1, name="amount")(inputs),
    }
    model = tfbnn.Model(inputs, outputs)
    normal = tfbnn.losses.NormalNLL(scale=0.5)
    model.compile("adam", loss={"label": LOGITS, "amount": normal}, loss_weights={"amount": 2.0})
    targets = {"label": Y, "amount": X[:, :1]}
    logs = model.evaluate(X, targets, return_dict=True, verbose=0)
    out = model(X)
    expected = float(LOGITS(Y, out["label"])) + 2 * float(normal(X[:, :1], out["amount"]))
    assert logs["nll"] == pytest.approx(expected, rel=1e-4)
    model.fit(X, targets, verbose=0)


def test_targets_and_losses_by_name_find_their_outputs():
    inputs = keras.Input((3,))
    layers = [tfbnn.layers.DenseFlipout(1, name=name) for name in ("last", "first")]
    model = tfbnn.Model(inputs, [layer(inputs) for layer in layers])
    normal = tfbnn.losses.NormalNLL(scale=1.0)
    weights = {"first": 2.0, "last": 3.0}
    model.compile("adam", loss={"first": normal, "last": normal}, loss_weights=weights)
    targets = {"last": X[:, :1], "first": X[:, :1] + 9.0}
    last, first = model(X)
    expected = 3 * float(normal(targets["last"], last)) + 2 * float(normal(targets["first"], first))
    for y in (targets, [targets["last"], targets["first"]]):
        logs = model.evaluate(X, y, return_dict=True, verbose=0)
        assert logs["nll"] == pytest.approx(expected, rel=1e-4)
    rows = {"last": np.zeros(40), "first": np.ones(40)}
    logs = model.evaluate(X, targets, sample_weight=rows, return_dict=True, verbose=0)
    assert logs["nll"] == pytest.approx(2 * float(normal(targets["first"], first)), rel=1e-4)


@pytest.mark.parametrize("structure", [list, dict])
def test_several_inputs(structure):
    one, two = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    hidden = [tfbnn.layers.DenseFlipout(3)(one), tfbnn.layers.DenseFlipout(2)(two)]
    outputs = tfbnn.layers.DenseFlipout(2)(keras.layers.Concatenate()(hidden))
    inputs, x = [one, two], [X, X[:, :2]]
    if structure is dict:
        inputs, x = {"one": one, "two": two}, {"one": X, "two": X[:, :2]}
    model = tfbnn.Model(inputs, outputs)
    model.compile("adam", loss=LOGITS, run_eagerly=structure is dict)
    model.fit(x, Y, verbose=0)
    # A list would be stacked to one array.
    x = tuple(x) if structure is list else x
    model.fit(tf.data.Dataset.from_tensor_slices((x, Y)).batch(8), verbose=0)
    assert model.num_examples == 40


def test_each_model_and_output_learns_a_scale_of_its_own():
    normal = tfbnn.losses.NormalNLL()
    inputs = keras.Input((3,))
    model = tfbnn.Model(inputs, [tfbnn.layers.DenseFlipout(1)(inputs) for _ in range(2)])
    other = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(1)])
    model.compile(keras.optimizers.Adam(0.1), loss=[normal, normal])
    other.compile("adam", loss=normal)
    model.fit(X, [X[:, :1], 5 * X[:, :1]], verbose=0)
    near, far = (float(likelihood.loss.constant_scale()) for likelihood in model.likelihoods)
    assert 2 * near < far
    assert float(other.likelihood.loss.rho_variable.value) == pytest.approx(0.5413, abs=1e-4)


def test_a_layer_that_is_called_several_times_counts_once_and_is_one_draw():
    steps = RNG.normal(size=(6, 5, 3)).astype("float32")
    inputs = keras.Input((5, 3))
    layer = tfbnn.layers.DenseFlipout(2, kernel_prior="scale_mixture")
    model = tfbnn.Model(inputs, keras.layers.TimeDistributed(layer)(inputs))
    model.compile(keras.optimizers.SGD(0.0), loss=LOGITS)
    logs = model.fit(steps, RNG.integers(0, 2, (6, 5)), verbose=0).history
    seeds = [noise.as_seed(i) for i in range(200)]
    kl = sum(np.mean([float(w.kl(seed)) for seed in seeds]) for w in layer.variational_weights)
    assert logs["kl"][0] == pytest.approx(kl, rel=0.2)


def test_a_shared_layer_counts_once():
    shared = tfbnn.layers.DenseFlipout(3, **STANDARD)
    inputs = keras.Input((3,))
    model = tfbnn.Model(inputs, shared(shared(inputs)))
    model.compile(keras.optimizers.SGD(0.0), loss=LOGITS)
    logs = model.fit(X, Y, verbose=0).history
    assert logs["kl"][0] == pytest.approx(_kl_by_hand(model), rel=1e-5)


class Subclass(tfbnn.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        # A prior without a closed form: the draws must come out of the graphs they are made in.
        self.hidden = tfbnn.layers.DenseFlipout(
            units, activation="relu", kernel_prior="scale_mixture"
        )
        self.out = tfbnn.layers.DenseFlipout(2)

    def get_config(self):
        return {**super().get_config(), "units": self.units}

    def call(self, inputs, training=None):
        return self.out(self.hidden(inputs, training=training), training=training)


class WithoutTraining(Subclass):
    def call(self, inputs):
        return self.out(self.hidden(inputs))


def test_subclassed_models():
    model = Subclass()
    model.compile("adam", loss=LOGITS)
    assert model.fit(X, Y, verbose=0).history["kl"][0] > 0
    # Keras hands `training` on to the layers also past a `call` that does not take it.
    without = WithoutTraining()
    without.compile("adam", loss=LOGITS)
    assert without.fit(X, Y, verbose=0).history["kl"][0] > 0


class FunctionalSubclass(tfbnn.Model):
    def __init__(self):
        inputs = keras.Input((3,))
        super().__init__(inputs, tfbnn.layers.DenseFlipout(2)(inputs))


def test_a_functional_subclass_leaves_other_subclasses_alone():
    model = FunctionalSubclass()
    assert isinstance(model, tfbnn.Model) and type(model) is FunctionalSubclass
    for one in (model, Subclass()):
        one.compile(keras.optimizers.SGD(0.0), loss=LOGITS, run_eagerly=True)
        # In one batch: a KL that is drawn is averaged over steps, the loss over rows.
        logs = one.fit(X, Y, batch_size=40, verbose=0).history
        assert logs["loss"][0] == pytest.approx(logs["nll"][0] + logs["weighted_kl"][0], rel=1e-4)


def test_a_subclass_with_a_learned_scale_round_trips(tmp_path):
    model = Subclass(units=5)
    model.compile("adam", loss=tfbnn.losses.NormalNLL(initial_scale=0.3), run_eagerly=True)
    model.fit(X, X[:, :2], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", {"Subclass": Subclass})
    assert loaded.num_examples == 40
    expected = model.evaluate(X, X[:, :2], verbose=0)
    assert np.allclose(loaded.evaluate(X, X[:, :2], verbose=0), expected)


def test_a_model_that_turns_the_noise_off_in_training_is_an_error():
    class Silent(Subclass):
        def call(self, inputs, training=None):
            return super().call(inputs, training=False)

    silent = Silent()
    silent.compile("adam", loss=LOGITS)
    with pytest.raises(ValueError, match="posterior mean"):
        silent.fit(X, Y, verbose=0)


def test_nested_models_are_collected():
    layers = [tfbnn.layers.DenseFlipout(units, **STANDARD) for units in (4, 2)]
    inner = tfbnn.Sequential([keras.Input((3,)), layers[0]])
    plain = keras.Sequential([keras.Input((4,)), layers[1]])
    inputs = keras.Input((3,))
    model = tfbnn.Model(inputs, plain(inner(inputs)))
    model.compile(keras.optimizers.SGD(0.0), loss=LOGITS)
    logs = model.fit(X, Y, verbose=0).history
    assert len(variational_weights(model)) == 4
    assert logs["kl"][0] == pytest.approx(_kl_by_hand(model), rel=1e-5)


def test_clones_keep_the_objective_or_refuse_to_train():
    model = _model()
    model.fit(X, Y, verbose=0)
    clone = tfbnn.clone_model(model)
    assert type(clone) is tfbnn.Sequential and clone.num_examples == 40
    plain = keras.models.clone_model(model)
    plain.compile("adam", loss=LOGITS)
    if not isinstance(plain, tfbnn.Sequential):
        with pytest.raises(ValueError, match="tfbnn.Sequential"):
            plain.fit(X, Y, verbose=0)
    inputs = keras.Input((3,))
    model = tfbnn.Model(inputs, tfbnn.layers.DenseFlipout(2)(inputs))
    model.compile("adam", loss=LOGITS, beta=0.5, num_draws=2)
    clone = tfbnn.clone_model(model)
    assert clone.num_draws == 2 and clone.objective.beta == 0.5
    assert isinstance(keras.models.clone_model(model), tfbnn.Model)


@pytest.mark.parametrize("jit_compile", [True, False])
def test_jit(jit_compile):
    model = tfbnn.Sequential(
        [keras.Input((3,)), tfbnn.layers.DenseFlipout(2, kernel_prior="scale_mixture")]
    )
    model.compile("adam", loss=LOGITS, jit_compile=jit_compile)
    assert model.jit_compile is jit_compile
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"][0])


def test_a_compile_that_fails_changes_nothing():
    model = _model(beta=0.5, num_draws=2)
    before = (model.optimizer, model.likelihoods, model.objective.kl_schedule)
    for bad in ({"beta": np.nan}, {"num_draws": 1.0}, {"kl_schedule": keras.initializers.Zeros}):
        with pytest.raises(ValueError, match="Received: "):
            model.compile("sgd", loss=tfbnn.losses.NormalNLL(), **bad)
    assert before == (model.optimizer, model.likelihoods, model.objective.kl_schedule)
    assert (model.objective.beta, model.num_draws) == (0.5, 2)


def test_warm_up_and_minibatch_weights():
    warm_up = tfbnn.schedules.LinearWarmUp(epochs=2)
    model = _model(kl_schedule=warm_up)
    weights = model.fit(X, Y, batch_size=10, epochs=3, verbose=0).history["kl_weight"]
    assert np.allclose(weights, np.array([2.5 / 8, 6.5 / 8, 1.0]) / 40)
    blundell = tfbnn.schedules.MinibatchWeights()
    factors = [float(blundell(step, 469)) for step in range(469)]
    assert np.isfinite(factors).all() and np.mean(factors) == pytest.approx(1.0, rel=1e-5)
    model = _model(kl_schedule="minibatch_weights")
    logs = model.fit(X, Y, batch_size=10, verbose=0).history
    assert logs["kl_weight"][0] == pytest.approx(1 / 40, rel=1e-4)
    with pytest.raises(ValueError, match="kl_schedule"):
        _model(kl_schedule="fast")


def test_several_draws_a_step_leave_the_expectation_and_lower_the_noise():
    def losses(num_draws):
        model = tfbnn.Sequential(
            [
                keras.Input((3,)),
                tfbnn.layers.DenseReparameterization(
                    2,
                    kernel_posterior=tfbnn.families.Normal(1.0),
                    kernel_initializer="zeros",
                    seed=2,
                ),
            ]
        )
        model.compile(keras.optimizers.SGD(0.0), loss=LOGITS, num_draws=num_draws)
        model.num_examples = 40
        results = []
        for _ in range(150):
            model.reset_metrics()
            results.append(model.train_on_batch(X, Y))
        return results

    one, eight = losses(1), losses(8)
    error = np.hypot(np.std(one), np.std(eight)) / np.sqrt(150)
    assert abs(np.mean(one) - np.mean(eight)) < 4 * error
    assert np.var(eight) < 0.3 * np.var(one)


@pytest.mark.parametrize(
    ("scale", "compile_again"),
    [(0.3, True), ("learned", True), ("head", True), ("learned", False)],
)
def test_regression_round_trip(tmp_path, scale, compile_again):
    outputs = 2 if scale == "head" else 1
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(outputs)])
    model.compile("adam", loss=tfbnn.losses.NormalNLL(scale=scale))
    target = X[:, :1] * 2
    model.fit(X, target, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=compile_again)
    if not compile_again:
        loaded.compile("adam", loss=tfbnn.losses.NormalNLL(scale=scale))
    expected = model.evaluate(X, target, verbose=0)
    assert np.allclose(loaded.evaluate(X, target, verbose=0), expected, rtol=1e-5)
    assert loaded.num_examples == 40
    assert len(loaded.trainable_weights) == len(model.trainable_weights)


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "loss_scale"])
def test_the_optimizer_is_as_it_was_saved_without_a_warning(tmp_path, optimizer, epochs):
    if optimizer == "loss_scale":
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    model.compile(optimizer, loss=tfbnn.losses.NormalNLL(), run_eagerly=True)
    model.fit(X, X[:, :2], epochs=epochs, verbose=0)
    model.save(tmp_path / "model.keras")
    # A warning would be an error here.
    loaded = keras.models.load_model(tmp_path / "model.keras")
    pairs = zip(model.optimizer.variables, loaded.optimizer.variables, strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
    assert loaded.optimizer.iterations == 2 * epochs
    loaded.fit(X, X[:, :2], verbose=0)


def test_a_learned_scale_finds_the_noise():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 1)).astype("float32")
    y = 3 * x + rng.normal(scale=0.2, size=x.shape).astype("float32")
    model = tfbnn.Sequential([keras.Input((1,)), tfbnn.layers.DenseReparameterization(1)])
    model.compile(keras.optimizers.Adam(0.1), loss=tfbnn.losses.NormalNLL(scale="learned"))
    model.fit(x, y, batch_size=400, epochs=50, verbose=0)
    _, scale = model.likelihood.parameters(model(x))
    # The standard error of a standard deviation is scale / sqrt(2 n); the optimizer adds noise.
    assert float(scale[0, 0]) == pytest.approx(0.2, abs=0.02)


def test_a_model_that_its_first_batch_has_built_takes_other_numbers_of_rows():
    x, y = RNG.normal(size=(40, 3)), RNG.integers(0, 2, 40)
    model = tfbnn.Sequential([tfbnn.layers.DenseFlipout(2)])
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for rows in (40, 33, 7):
        model.fit(x[:rows], y[:rows], verbose=0, validation_data=(x[:5], y[:5]))
        model.evaluate(x[:rows], y[:rows], verbose=0)
    assert tfbnn.evaluate(model, x, y).num_rows == 40


def test_callbacks_of_keras(tmp_path):
    model = _model()
    model.compile(keras.optimizers.Adam(0.1), loss=LOGITS, run_eagerly=True)
    callbacks = [
        keras.callbacks.EarlyStopping("val_nll", mode="min", patience=1, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", "val_nll", mode="min", save_best_only=True
        ),
        keras.callbacks.ModelCheckpoint(tmp_path / "last.weights.h5", save_weights_only=True),
    ]
    history = model.fit(X, Y, validation_split=0.5, epochs=4, callbacks=callbacks, verbose=0)
    scores = history.history["val_nll"]
    best = keras.models.load_model(tmp_path / "best.keras")
    assert isinstance(best, tfbnn.Sequential) and best.num_examples == 20
    last = tfbnn.clone_model(model)
    last.load_weights(tmp_path / "last.weights.h5")
    last.compile(loss=LOGITS)
    for one, score in ((best, min(scores)), (model, min(scores)), (last, scores[-1])):
        found = one.evaluate(X[20:], Y[20:], return_dict=True, verbose=0)["nll"]
        assert found == pytest.approx(score, rel=1e-5)
    best.fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    "loss, words",
    [
        ("mse", "NormalNLL"),
        (keras.losses.Huber(), "NormalNLL"),
        (keras.losses.CategoricalCrossentropy(label_smoothing=0.1), "label_smoothing"),
        (keras.losses.SparseCategoricalCrossentropy(ignore_class=0), "ignore_class"),
        (keras.losses.BinaryCrossentropy(reduction="sum"), "reduction"),
    ],
)
def test_a_loss_that_is_no_likelihood_is_an_error(loss, words):
    with pytest.raises(ValueError, match=words):
        _model().compile("adam", loss=loss)


@pytest.mark.parametrize(
    "x, y, words",
    [
        (np.where(X > 2, np.nan, X), Y, "NaN or infinite"),
        (X, Y + 1, "Labels must be whole numbers from 0 to 1"),
        (X, Y - 1, "Labels"),
        (X[:0], Y[:0], "no example"),
        (tf.constant(np.inf * X), Y, "NaN or infinite"),
        (X, np.eye(2)[Y], "ask for targets of shape"),
        (X, Y[:30], "same number of samples"),
        (X[:, :2], Y, "expected axis -1 of input shape to have value 3"),
    ],
)
def test_bad_data_is_an_error(x, y, words):
    with pytest.raises(ValueError, match=words):
        _model().fit(x, y, verbose=0)


@pytest.mark.parametrize(
    "x, y, words",
    [
        (X, Y + 5, "Labels must be whole numbers from 0 to 1"),
        (np.where(X > 2, np.nan, X), Y, "NaN or infinite"),
        (X[:0], Y[:0], "no example"),
    ],
)
def test_bad_data_in_a_data_set_are_errors(x, y, words):
    with pytest.raises(ValueError, match=words):
        _model().fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(8), verbose=0)


@pytest.mark.parametrize(
    "outputs, targets, loss, words",
    [
        (3, X[:, :1], tfbnn.losses.NormalNLL(scale=1.0), r"shape \(None, 3\)"),
        (1, X, tfbnn.losses.NormalNLL(scale=1.0), r"shape \(None, 1\)"),
        (2, X[:, :2], tfbnn.losses.NormalNLL(scale="head"), r"shape \(None, 1\)"),
        (3, X[:, :1], tfbnn.losses.NormalNLL(scale="head"), "two outputs for each target"),
        (2, Y, keras.losses.BinaryCrossentropy(), r"shape \(None, 2\)"),
        (2, Y, keras.losses.CategoricalCrossentropy(), r"shape \(None, 2\)"),
        (1, 2 * Y, keras.losses.BinaryCrossentropy(), "between 0 and 1"),
    ],
)
def test_targets_of_another_shape_are_not_broadcast(outputs, targets, loss, words):
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(outputs)])
    model.compile("adam", loss=loss)
    with pytest.raises(ValueError, match=words):
        model.fit(X, targets, verbose=0)


def test_broken_weights_and_arguments_are_errors():
    model = _model()
    model.layers[0].kernel.loc_variable.assign(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="weights of the model"):
        model.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="beta"):
        _model(beta=-1.0)
    with pytest.raises(ValueError, match="num_draws"):
        _model(num_draws=0)
    with pytest.raises(ValueError, match="num_examples"):
        _model().fit(X, Y, num_examples=0, verbose=0)
    double = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2, kl_weight=0.1)])
    double.compile("adam", loss=LOGITS)
    with pytest.raises(ValueError, match="count twice"):
        double.fit(X, Y, verbose=0)


def test_run_eagerly_and_several_steps_at_once():
    eager = _model()
    eager.compile("adam", loss=LOGITS, run_eagerly=True)
    eager.fit(X, Y, verbose=0)
    several = _model(steps_per_execution=4)
    logs = several.fit(X, Y, batch_size=10, verbose=0).history
    assert logs["kl_weight"][0] == pytest.approx(1 / 40)
