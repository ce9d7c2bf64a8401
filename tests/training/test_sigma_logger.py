"""SigmaLogger: statistics against NumPy, the files read back, and warnings in built situations."""

import csv
import functools
import math
import os
import warnings
from concurrent import futures

import keras
import matplotlib.image
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfbnn
from tfbnn.callbacks import SigmaLogger, sigma_statistics
from tfbnn.training import sigma, sigma_logger, sigma_runs
from tfbnn.training.sigma import unidentified
from tfbnn.weights import divergences

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def layer_with(loc, scale, prior="normal", masked=False, initial_scale=0.25):
    loc, scale = np.asarray(loc, "float32"), np.asarray(scale, "float32")
    layer = tfbnn.layers.DenseFlipout(
        loc.shape[1],
        kernel_prior=prior,
        masked=masked,
        kernel_posterior=tfbnn.families.Normal(initial_scale),
    )
    layer.build((None, loc.shape[0]))
    set_law(layer.kernel, loc, scale)
    return layer


def set_law(weight, loc, scale):
    weight.loc_variable.assign(np.broadcast_to(loc, weight.shape).astype("float32"))
    rho = scale + np.log(-np.expm1(-np.broadcast_to(scale, weight.shape)))
    weight.rho_variable.assign(rho.astype("float32"))


def make_model(learning_rate=0.05, run_eagerly=True, **options):
    model = tfbnn.Sequential(
        [
            keras.Input((3,)),
            tfbnn.layers.DenseFlipout(4, activation="tanh", seed=1, name="first", **options),
            tfbnn.layers.DenseReparameterization(2, seed=1, name="last", **options),
        ]
    )
    # One graph would take longer to trace than to run.
    model.compile(keras.optimizers.Adam(learning_rate), loss=LOSS, run_eagerly=run_eagerly)
    return model


@functools.cache
def _traced():
    """A model whose graph all tests share, and how it began."""
    model = make_model(run_eagerly=False)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    return model, [(variable, np.array(variable)) for variable in variables]


def new_model(learning_rate=0.05):
    """`make_model` without its price: one model for all tests, as it was before training."""
    model, start = _traced()
    for variable, value in start:
        variable.assign(value)
    model.optimizer.learning_rate = learning_rate
    return model


def csv_logger(folder, **options):
    return SigmaLogger(folder, **{"tensorboard": False, "picture": False, **options})


def fit(model, logger, epochs=3, batch_size=8):
    return model.fit(
        X, Y, epochs=epochs, batch_size=batch_size, callbacks=[logger], verbose=0, shuffle=False
    )


def rows_of(folder):
    with open(os.path.join(folder, "sigma.csv"), newline="") as file:
        return list(csv.DictReader(file))


def steps_of(folder):
    return sorted({int(row["step"]) for row in rows_of(folder)})


# Statistics.


def test_statistics_agree_with_numpy():
    rng = np.random.default_rng(1)
    loc, scale = rng.normal(size=(5, 7)), rng.uniform(0.01, 1, size=(5, 7))
    kernel = layer_with(loc, scale).kernel
    statistics = sigma_statistics(kernel, quantiles=(0.1, 0.5, 0.975))
    snr = 20 * np.log10(np.abs(loc) / scale)
    expected = {
        "weights": 35,
        "sigma_mean": scale.mean(),
        "sigma_stddev": scale.std(),
        "sigma_min": scale.min(),
        "sigma_max": scale.max(),
        "sigma_q10": np.quantile(scale, 0.1),
        "sigma_q50": np.median(scale),
        "sigma_q97.5": np.quantile(scale, 0.975),
        "snr_db_mean": snr.mean(),
        "snr_db_q10": np.quantile(snr, 0.1),
        "snr_db_q50": np.median(snr),
        "snr_db_q97.5": np.quantile(snr, 0.975),
        "correlation": scipy.stats.spearmanr(np.abs(loc).ravel(), scale.ravel()).statistic,
        "kl": np.sum(np.log(1 / scale) + (scale**2 + loc**2 - 1) / 2),
        "kl_is_exact": 1,
        "share_at_start": np.mean(np.abs(scale - 0.25) <= 0.0025),
        "share_at_prior": np.mean((np.abs(loc) < 0.1) & (np.abs(scale - 1) <= 0.1)),
    }
    assert list(statistics) == list(expected)
    for name, value in expected.items():
        assert statistics[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_the_correlation_knows_ties():
    loc, scale = np.arange(12).reshape(3, 4) % 5 + 1.0, np.arange(12).reshape(3, 4) % 4 + 1.0
    found = sigma_statistics(layer_with(loc, scale).kernel)["correlation"]
    assert found == pytest.approx(scipy.stats.spearmanr(loc.ravel(), scale.ravel()).statistic)
    # At the start every sigma is the same.
    assert np.isnan(sigma_statistics(layer_with(loc, np.ones((3, 4))).kernel)["correlation"])


def test_unidentified_are_those_at_the_start_or_at_the_prior_about_any_likely_mean():
    loc = [[0.0, 0.9, 2.9, 3.1, 0.9, 3.0]]
    scale = [[0.2505, 1.05, 0.95, 0.95, 0.5, 0.25]]
    assert unidentified([layer_with(loc, scale).kernel]) == pytest.approx(4 / 6)


def test_shares_at_start_and_at_prior():
    loc = [[0.0, 0.0, 0.05, 0.3]]
    scale = [[0.2505, 1.05, 0.95, 1.0]]
    statistics = sigma_statistics(layer_with(loc, scale).kernel)
    assert statistics["share_at_start"] == 0.25
    assert statistics["share_at_prior"] == 0.5


def test_a_weight_at_either_component_of_a_mixture_is_at_the_prior():
    prior = tfbnn.priors.ScaleMixture(sigma1=1.0, sigma2=0.01)
    loc, scale = [[0.0, 0.0005, 0.05, 0.0]], [[1.02, 0.0102, 0.01, 0.1]]
    statistics = sigma_statistics(layer_with(loc, scale, prior).kernel)
    assert statistics["share_at_prior"] == 0.5
    assert statistics["kl_is_exact"] == 0


@pytest.mark.parametrize(
    "prior",
    [
        tfbnn.priors.Normal(0.5, 2.0),
        tfbnn.priors.Laplace(0.5, 2.0),
        tfbnn.priors.StudentT(3.0, 0.5, 0.1),
        tfbnn.priors.Cauchy(-1.0, 0.01),
        tfbnn.priors.Distribution(tfp.distributions.Logistic(0.0, 30.0)),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_no_normal_is_nearer_to_the_prior(prior):
    [(loc, scale)] = sigma.nearest_normals(prior)
    noise = np.random.default_rng(2).normal(size=200_000)
    noise = np.concatenate([noise, -noise])

    def kl(factor):
        log_prob = prior.log_prob(loc + factor * scale * noise).numpy()
        return -np.log(factor * scale) - log_prob.mean(dtype=np.float64)

    assert kl(1.0) < min(kl(0.9), kl(1.1))


def test_nearest_normal_of_a_laplace_prior_is_known():
    [(loc, scale)] = sigma.nearest_normals(tfbnn.priors.Laplace(0.0, 3.0))
    assert loc == 0.0
    assert scale == pytest.approx(math.sqrt(math.pi / 2) * 3.0, rel=0.03)


def test_a_prior_for_each_weight_has_no_share():
    prior = tfbnn.priors.Distribution(tfp.distributions.Normal([0.0, 1.0], [1.0, 2.0]))
    assert math.isnan(
        sigma_statistics(layer_with(np.ones((3, 2)), 0.1, prior).kernel)["share_at_prior"]
    )


def test_pruned_weights_are_left_out():
    loc, scale = np.array([[1.0, 2.0, 4.0]]), np.array([[0.1, 0.2, 0.3]])
    kernel = layer_with(loc, scale, masked=True).kernel
    kernel.mask_variable.assign([[1.0, 0.0, 1.0]])
    plain = layer_with(loc[:, [0, 2]], scale[:, [0, 2]]).kernel
    assert sigma_statistics(kernel) == pytest.approx(sigma_statistics(plain), rel=1e-6)
    kernel.mask_variable.assign([[0.0, 0.0, 0.0]])
    statistics = sigma_statistics(kernel)
    assert (statistics["weights"], statistics["kl"]) == (0, 0)
    assert math.isnan(statistics["sigma_q50"])


def test_a_zero_mean_counts_at_the_floor():
    statistics = sigma_statistics(layer_with([[0.0]], [[0.1]]).kernel)
    assert statistics["snr_db_mean"] == pytest.approx(-120)


def test_quantiles_of_a_large_tensor_come_from_a_sample(monkeypatch):
    rng = np.random.default_rng(3)
    kernel = layer_with(rng.normal(size=(100, 200)), rng.uniform(0.1, 1.1, (100, 200))).kernel
    exact = sigma_statistics(kernel)
    monkeypatch.setattr(sigma, "_EXACT_QUANTILES", 5000)
    sampled = sigma_statistics(kernel)
    # Four standard errors of the median of 5,000 uniform draws.
    assert sampled["sigma_q50"] == pytest.approx(exact["sigma_q50"], abs=4 * 0.5 / math.sqrt(5000))
    assert sampled["sigma_mean"] == exact["sigma_mean"]


def test_monte_carlo_kl_estimates_the_kl():
    loc, scale = np.full((100, 100), 0.3), np.full((100, 100), 0.5)
    prior = tfbnn.priors.Cauchy()
    statistics = sigma_statistics(layer_with(loc, scale, prior).kernel)
    nodes, shares = np.polynomial.hermite_e.hermegauss(64)
    log_prob = np.log(1 / (np.pi * (1 + (0.3 + 0.5 * nodes) ** 2)))
    kl = -(log_prob @ shares) / shares.sum() - float(divergences.normal_entropy(tf.constant(0.5)))
    error = np.sqrt(((log_prob**2) @ shares / shares.sum()) * 10_000)
    assert statistics["kl"] == pytest.approx(10_000 * kl, abs=4 * error)
    assert statistics["kl_is_exact"] == 0


def test_equal_names_of_nested_models_stay_apart():
    inner = tfbnn.Sequential(
        [keras.Input((3,)), tfbnn.layers.DenseFlipout(3, name="first")], name="inner"
    )
    outer = tfbnn.Sequential([inner, tfbnn.layers.DenseFlipout(2, name="first")])
    outer.build((None, 3))
    assert len(sigma.named_weights(outer)) == 4


# Files.


def test_files_hold_what_was_logged(tmp_path):
    model = new_model()
    fit(model, SigmaLogger(tmp_path), epochs=3)
    rows = rows_of(tmp_path)
    assert steps_of(tmp_path) == [0, 4, 8, 12]
    assert [row["epoch"] for row in rows[::4]] == ["0", "1", "2", "3"]
    assert [(r["layer"], r["weight"]) for r in rows[:4]] == [
        ("first", "kernel"),
        ("first", "bias"),
        ("last", "kernel"),
        ("last", "bias"),
    ]
    statistics = sigma_statistics(model.get_layer("last").kernel)
    for name, value in statistics.items():
        assert float(rows[-2][name]) == pytest.approx(value, rel=1e-5), name

    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    assert {f"last/kernel/{name}" for name in [*statistics, "sigma", "snr_db"]} <= tags
    series = events.Tensors("last/kernel/sigma_mean")
    assert [event.step for event in series] == [0, 4, 8, 12]
    logged = float(tf.make_ndarray(series[-1].tensor_proto))
    assert logged == pytest.approx(statistics["sigma_mean"], rel=1e-5)
    histogram = tf.make_ndarray(events.Tensors("first/kernel/sigma")[-1].tensor_proto)
    assert histogram[:, 2].sum() == 12

    picture = matplotlib.image.imread(tmp_path / "sigma.png")
    assert picture.shape[0] > 300 and picture[..., :3].std() > 0.05


def test_outputs_can_be_switched_off(tmp_path):
    fit(new_model(), csv_logger(tmp_path, csv=False, picture=False))
    assert os.listdir(tmp_path) == []


def test_every_n_batches_and_at_both_ends(tmp_path):
    logger = csv_logger(tmp_path, every=3, quantiles=(0.25, 0.75))
    fit(new_model(), logger, epochs=2)
    assert steps_of(tmp_path) == [0, 3, 6, 8]
    assert "sigma_q25" in rows_of(tmp_path)[0]


@pytest.mark.parametrize("new_object", [False, True])
def test_a_second_fit_of_the_model_continues(tmp_path, new_object):
    model = new_model()
    logger = csv_logger(tmp_path, picture=new_object)
    fit(model, logger, epochs=2)
    fit(model, csv_logger(tmp_path, picture=True) if new_object else logger, epochs=1)
    assert steps_of(tmp_path) == [0, 4, 8, 12]
    assert len(rows_of(tmp_path)) == 4 * 4


def test_a_saved_and_loaded_model_continues(tmp_path):
    model = new_model()
    fit(model, csv_logger(tmp_path), epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = tfbnn.load_model(tmp_path / "model.keras")
    fit(loaded, csv_logger(tmp_path), epochs=1)
    assert steps_of(tmp_path) == [0, 4, 8]


def test_steps_go_on_after_compiling_anew(tmp_path):
    model = make_model()
    logger = csv_logger(tmp_path)
    fit(model, logger, epochs=1)
    model.compile(keras.optimizers.Adam(0.05), loss=LOSS, run_eagerly=True)
    fit(model, logger, epochs=1)
    assert steps_of(tmp_path) == [0, 4, 8]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_run_is_logged_beside_and_nothing_is_overwritten(tmp_path):
    fit(new_model(), SigmaLogger(tmp_path), epochs=1)
    before = contents(tmp_path)
    second = SigmaLogger(tmp_path)
    fit(new_model(), second, epochs=2)
    third = SigmaLogger(str(tmp_path), csv=False)
    fit(new_model(), third, epochs=1)
    assert (second.folder, third.folder) == (str(tmp_path / "run_2"), str(tmp_path / "run_3"))
    assert steps_of(tmp_path / "run_2") == [0, 4, 8]
    # Its picture and its events are with it, so that TensorBoard sees two runs.
    names = [sorted(name[:6] for name in os.listdir(run.folder)) for run in (second, third)]
    assert names == [["events", "sigma.", "sigma."], ["events", "sigma."]]
    after = contents(tmp_path)
    assert before == {path: after[path] for path in before}


def test_each_model_finds_its_own_log(tmp_path):
    model, other = make_model(), make_model()
    for one, epochs in ((model, 1), (other, 2)):
        fit(one, csv_logger(tmp_path), epochs=epochs)
    before = contents(tmp_path / "run_2")
    fit(model, csv_logger(tmp_path), epochs=3)
    assert steps_of(tmp_path) == [0, 4, 8, 12, 16]
    assert contents(tmp_path / "run_2") == before
    # A model of other layers that happens to be at the same step is another run.
    stranger = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2, name="else")])
    stranger.compile(keras.optimizers.Adam(0.05), loss=LOSS, run_eagerly=True)
    stranger.optimizer.build(stranger.trainable_variables)
    stranger.optimizer.iterations.assign(8)
    logger = csv_logger(tmp_path)
    fit(stranger, logger, epochs=1)
    assert os.path.basename(logger.folder) == "run_3" and steps_of(logger.folder) == [8, 12]
    # The last run's, if any log is to be continued.
    fit(new_model(), csv_logger(tmp_path / "run_2", append=True), epochs=1)
    with pytest.raises(ValueError, match="other layers.*run_3"):
        fit(new_model(), csv_logger(tmp_path, append=True))


def test_a_damaged_log_is_left_alone(tmp_path):
    (tmp_path / "sigma.csv").write_text("not,a,log\n")
    logger = csv_logger(tmp_path)
    fit(new_model(), logger, epochs=1)
    assert steps_of(tmp_path / "run_2") == [0, 4]
    assert (tmp_path / "sigma.csv").read_text() == "not,a,log\n"


def test_processes_that_start_at_once_take_a_folder_each(tmp_path):
    def claim(_):
        return sigma_runs.find_run(str(tmp_path), ["kl"], {"a/kernel"}, 0).file.path

    with futures.ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(claim, range(16)))
    assert len(paths) == 16
    assert all(os.path.exists(path) for path in paths)


def test_append_continues_any_log_with_the_same_columns(tmp_path):
    fit(new_model(), csv_logger(tmp_path), epochs=1)
    with open(tmp_path / "sigma.csv", "a") as file:
        file.write("5,2,first")  # Killed while it wrote.
    fit(new_model(), csv_logger(tmp_path, append=True), epochs=2)
    complete = [row for row in rows_of(tmp_path) if row["share_at_prior"]]
    assert [int(row["step"]) for row in complete[::4]] == [0, 4, 0, 4, 8]
    with pytest.raises(ValueError, match="other columns.*Received: .*sigma_q5"):
        fit(new_model(), csv_logger(tmp_path, quantiles=(0.3,), append=True))
    other = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2, name="else")])
    other.compile(loss=LOSS)
    with pytest.raises(ValueError, match="model with other layers"):
        fit(other, csv_logger(tmp_path, append=True))


def test_long_runs_keep_a_bounded_number_of_records(tmp_path, monkeypatch):
    monkeypatch.setattr(sigma_logger, "_MOST_RECORDS", 4)
    logger = csv_logger(tmp_path, every=1)
    fit(new_model(), logger, epochs=2)
    assert steps_of(tmp_path) == list(range(9))
    kept = [step for step, _ in logger.records]
    assert len(kept) <= 4 and (kept[0], kept[-1]) == (0, 8) and kept == sorted(kept)


def test_a_full_disk_does_not_cost_the_training(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    model = new_model()
    logger = csv_logger(tmp_path)
    monkeypatch.setattr(sigma_logger.SigmaFile, "add", full)
    with pytest.warns(UserWarning, match="training goes on. Received: .*No space left"):
        fit(model, logger, epochs=2)
    assert int(model.optimizer.iterations) == 8


def test_other_workers_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sigma_logger, "is_chief", lambda strategy: False)
    fit(new_model(learning_rate=0.0), SigmaLogger(tmp_path, every=1))
    assert os.listdir(tmp_path) == []


# Models.


class Subclassed(tfbnn.Model):
    def __init__(self):
        super().__init__()
        self.dense = tfbnn.layers.DenseLocalReparameterization(2)

    def call(self, x, training=None):
        return self.dense(x, training=training)


def functional():
    inputs = keras.Input((3,))
    return tfbnn.Model(inputs, tfbnn.layers.DenseFlipout(2)(inputs))


def plain():
    return keras.Sequential([tfbnn.layers.DenseFlipout(2, kl_weight=1 / 32)])


@pytest.mark.parametrize("make", [Subclassed, functional, plain])
def test_every_kind_of_model(tmp_path, make):
    model = make()
    model.compile(keras.optimizers.Adam(0.05), loss=LOSS, run_eagerly=True)
    fit(model, csv_logger(tmp_path), epochs=2)
    # The first batch builds the last two.
    assert steps_of(tmp_path) == [0 if make is functional else 1, 4, 8]


def test_under_a_strategy(tmp_path):
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        model = make_model()
    fit(model, csv_logger(tmp_path), epochs=1)
    assert steps_of(tmp_path) == [0, 4]


# Warnings.


def test_no_warning_in_a_healthy_run(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(new_model(), csv_logger(tmp_path), epochs=2)


def test_warns_if_sigma_never_left_its_start(tmp_path):
    with pytest.warns(UserWarning, match="never left its start in first/kernel.*last/bias") as seen:
        fit(new_model(learning_rate=0.0), csv_logger(tmp_path), epochs=1)
    [message] = [str(w.message) for w in seen if "Sigma" in str(w.message)]
    assert "raise the learning rate" in message and "initial_scale=" in message


def test_a_frozen_layer_raises_no_warning(tmp_path):
    model = make_model()
    model.get_layer("first").trainable = False
    model.compile(keras.optimizers.Adam(0.05), loss=LOSS, run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, csv_logger(tmp_path), epochs=1)


@pytest.mark.parametrize(
    "prior", ["normal", "laplace", "cauchy", tfbnn.priors.ScaleMixture(0.5, 1.0, 0.01)], ids=str
)
def test_warns_if_the_posterior_fell_back_to_the_prior(tmp_path, prior):
    model = make_model(learning_rate=0.0, kernel_prior=prior)
    for weight in model.get_layer("first").variational_weights:
        [*_, (loc, scale)] = sigma.nearest_normals(weight.prior)
        set_law(weight, loc, scale)
    with pytest.warns(UserWarning) as seen:
        fit(model, csv_logger(tmp_path), epochs=1)
    [message] = [str(w.message) for w in seen if "fell back" in str(w.message)]
    assert "in first/kernel (100 % of it), first/bias (100 % of it):" in message
    assert "num_examples" in message and "last" not in message


def test_a_spike_that_gathers_most_weights_is_no_fall_back():
    prior = tfbnn.priors.ScaleMixture(0.5, 1.0, 0.01)
    loc = np.zeros((10, 20))
    loc[0, :2] = 1.0
    kernel = layer_with(loc, np.full((10, 20), 0.01), prior).kernel
    statistics = sigma_statistics(kernel)
    assert statistics["share_at_prior"] == 0.99
    assert sigma.sigma_warnings({"a": kernel}, {"a": statistics}) == []


# Errors.


@pytest.mark.parametrize("every", ["batch", 0, -3, 2.5, True, None])
def test_every_is_checked(tmp_path, every):
    with pytest.raises(ValueError, match="`every` must be .* Received: every="):
        SigmaLogger(tmp_path, every=every)


@pytest.mark.parametrize("quantiles", [(), (0.0, 0.5), (0.5, 0.1), (0.5, 0.5), (float("nan"),)])
def test_quantiles_are_checked(tmp_path, quantiles):
    with pytest.raises(ValueError, match="`quantiles.* Received: quantiles"):
        SigmaLogger(tmp_path, quantiles=quantiles)


def test_a_model_without_variational_layers_is_an_error(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(loss=LOSS)
    with pytest.raises(ValueError, match="no variational layers.*Received: model="):
        fit(model, SigmaLogger(tmp_path))


def test_a_model_that_the_first_batch_builds_is_checked_then(tmp_path):
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile(loss=LOSS, run_eagerly=True)
    with pytest.raises(ValueError, match="no variational layers"):
        fit(model, csv_logger(tmp_path))


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    model = new_model()
    with pytest.raises(OSError, match="cannot write in its folder.*Received: log_dir="):
        fit(model, SigmaLogger(tmp_path / "file" / "logs"))
    assert int(model.optimizer.iterations) == 0


def test_a_missing_tensorboard_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        fit(new_model(), SigmaLogger(tmp_path))
