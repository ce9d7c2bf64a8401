"""Routes x uses: whatever is done with a posterior works, or says what can be done instead."""

import dataclasses
import functools
import re
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.routes import ROUTES, ROWS, Wider, bayesian, made
from tests.targets import READERS
from tfbnn.export import modes
from tfbnn.export.targets import TARGETS
from tfbnn.posterior.routes import ROUTES as CLASSES
from tfbnn.pruning.masks import prunable_weights, sparsity_of
from tfbnn.weights import noise

# Networks of an answer; enough for the largest ensemble twice.
COUNT = 6
NO_LAWS = "needs the mean and the standard deviation of each weight.*`tfbnn.distill` teaches"
NO_LAYERS = "Only a `tfbnn.Sequential` or `tfbnn.Model` can be pruned, compacted"
NOT_TAUGHT = "no network at a mean that could be taught in place: give a model"
CLOSE = {"rtol": 0, "atol": 1e-5}


def answers(given, x, **options):
    return tfbnn.predict(given, x, **{"num_samples": COUNT, "seed": 3, "verbose": 0, **options})


def named(prediction):
    """The answers of a prediction by the names that files give them."""
    part = "mutual_information" if hasattr(prediction, "mutual_information") else "epistemic"
    return {name: getattr(prediction, name) for name in ("prediction", "uncertainty", part)}


def same(found, expected, **tolerance):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, err_msg=name, **(tolerance or CLOSE))


# What is done with a posterior, and what says that it was done rightly.


def predicted(posterior, x, y, folder):
    first, again = answers(posterior, x), answers(posterior, x, batch_size=5)
    same(named(again), named(first))
    # One network answers for all rows: the same row has the same answer of each.
    (one,) = answers(posterior, x[:1], keep_samples=True).samples[:1]
    (four,) = answers(posterior, np.repeat(x[:1], 4, axis=0), keep_samples=True).samples[:1]
    np.testing.assert_allclose(four, np.repeat(one, 4, axis=1), **CLOSE)
    # A network alone is the first of several.
    (alone,) = answers(posterior, x[:1], num_samples=1, keep_samples=True).samples[:1]
    np.testing.assert_allclose(alone[0], one[0], **CLOSE)
    other = answers(posterior, x, seed=4)
    assert np.allclose(first.prediction, other.prediction) == (posterior.num_draws is not None)


def evaluated(posterior, x, y, folder):
    found = tfbnn.evaluate(posterior, x, y, num_samples=COUNT, seed=3, verbose=0)
    draws = posterior.draws(noise.as_seed(3), 0, found.num_samples)
    (likelihood,) = posterior.likelihoods
    outputs = [posterior.network(values, x) for values in posterior.networks(draws)]
    log_prob = [likelihood.log_prob(y, one).numpy().reshape(ROWS, -1) for one in outputs]
    mean = np.logaddexp.reduce(np.asarray(log_prob, np.float64)) - np.log(len(outputs))
    assert found.nll == pytest.approx(-mean.sum(-1).mean(), rel=1e-4)


def right_in_two_of_three(posterior, x, y):
    """Labels of which neither the surest nor the least sure answers are best; numbers as they
    are."""
    if y.ndim > 1:
        return y
    said = answers(posterior, x).prediction.argmax(axis=-1)
    return np.where(np.arange(ROWS) % 3, said, (said + 1) % 3)


def calibrated(posterior, x, y, folder):
    (likelihood,) = posterior.likelihoods
    options = {"num_samples": COUNT, "seed": 3, "verbose": 0}
    y = right_in_two_of_three(posterior, x, y)
    before = tfbnn.evaluate(posterior, x, y, **options).nll
    try:
        found = tfbnn.calibrate(posterior, x, y, **options)
        assert {found.of: found} == {
            of: value
            for of, value in (
                ("draws", likelihood.temperature),
                ("mean", likelihood.mean_temperature),
            )
            if value != 1
        }
        assert tfbnn.evaluate(posterior, x, y, **options).nll < before
    finally:
        likelihood.take_temperatures(likelihood.at())


def covered(posterior, x, y, folder):
    # Of 12 rows ceil(13 * 0.8) = 11 are held, or more where scores are equal.
    found = tfbnn.conformal(posterior, x, y, coverage=0.8, num_samples=COUNT, seed=3)
    prediction, uncertainty, region = found.predict(x)
    same({"prediction": prediction}, {"prediction": answers(posterior, x).prediction})
    if y.ndim == 1:
        held = region[np.arange(ROWS), y]
    else:
        held = (region[0] <= y + 1e-5) & (y - 1e-5 <= region[1])
    assert (held.sum(axis=0) >= 11).all()


def selected(posterior, x, y, folder):
    # ceil(log(0.5) / log(0.1)) = 1 row that is right shows a risk of 0.9.
    settings = {"risk": 0.9, "confidence": 0.5, "num_samples": COUNT, "seed": 3}
    y = right_in_two_of_three(posterior, x, y)
    found = tfbnn.selective(posterior, x, y, **settings)
    np.testing.assert_array_equal(
        found.accepted(x), answers(posterior, x).uncertainty <= np.float32(found.threshold)
    )


def pruned(posterior, x, y, folder):
    model = tfbnn.prune(posterior, sparsity=0.5)
    assert sparsity_of(model) == pytest.approx(0.5, abs=0.02)
    # What is kept has the laws of the posterior, not those of its layers.
    laws = posterior.with_laws().laws()
    laws = [law for weight, law in laws.items() if weight.name.startswith("kernel")]
    for kernel, (loc, scale) in zip(prunable_weights(model), laws, strict=True):
        kept = kernel.mask.numpy() == 1
        np.testing.assert_allclose(kernel.loc.numpy()[kept], loc.numpy()[kept], rtol=1e-5)
        np.testing.assert_allclose(kernel.scale.numpy()[kept], scale.numpy()[kept], rtol=1e-4)


def compacted(posterior, x, y, folder):
    # Nothing is pruned: the same networks.
    same(named(answers(tfbnn.compact(posterior), x)), named(answers(posterior, x)), atol=1e-4)


def curve(posterior, x, y, folder):
    found = tfbnn.pruning_curve(posterior, x, y, [0.0, 0.5], num_samples=COUNT, seed=3, verbose=0)
    nll = tfbnn.evaluate(posterior, x, y, num_samples=COUNT, seed=3, verbose=0).nll
    assert found.rows[0]["nll"] == pytest.approx(nll, rel=1e-4)
    assert found.rows[1]["sparsity"] == 0.5


def distilled(uncertainty):
    def use(posterior, x, y, folder):
        before = [np.array(value) for value in posterior.model.get_weights()]
        # An answer of its own to other rows is one that it has to learn.
        wanted = answers(posterior, x[::-1], num_samples=2)
        tfbnn.distill(posterior, x, wanted, uncertainty, epochs=1, verbose=0)
        moved = answers(posterior, x, num_samples=2).prediction
        posterior.model.set_weights(before)
        assert not np.allclose(moved, answers(posterior, x, num_samples=2).prediction, atol=1e-5)

    return use


def checked_elbo(posterior, x, y, folder):
    tfbnn.check_elbo(posterior, x, y, verbose=0)


def saved(posterior, x, y, folder):
    posterior.save(folder / "posterior")
    loaded = tfbnn.load_posterior(folder / "posterior")
    assert type(loaded) is type(posterior)
    same(named(answers(loaded, x)), named(answers(posterior, x)))
    assert loaded.describe()["posterior"] == posterior.describe()["posterior"]


@dataclasses.dataclass(frozen=True)
class Use:
    """Something done with a posterior.

    Attributes:
        run: Does it, and asserts that it was done rightly.
        refusals: What a route must have, in this order, and what is said to one that has it not.
    """

    run: Callable[..., None]
    refusals: dict[str, str] = dataclasses.field(default_factory=dict)

    def refused(self, has):
        return next((message for what, message in self.refusals.items() if what not in has), None)


LAWS = {"laws": NO_LAWS, "layers": NO_LAYERS}
USES = {
    "predict": Use(predicted),
    "evaluate": Use(evaluated),
    "calibrate": Use(calibrated, {"classes": "Temperature scaling is for classes"}),
    "conformal": Use(covered),
    "selective": Use(selected, {"classes": "decided by one answer a row|pass `tolerance=`"}),
    "prune": Use(pruned, LAWS),
    "compact": Use(compacted, LAWS),
    "pruning curve": Use(curve, LAWS),
    "distill, moments": Use(distilled("moments"), {**LAWS, "taught": NOT_TAUGHT}),
    "distill, none": Use(
        distilled("none"), {"mean": NOT_TAUGHT, "own": f"{NOT_TAUGHT}|{NO_LAYERS}"}
    ),
    "check_elbo": Use(checked_elbo, {"nothing": "a `tfbnn.Model`.*Received: model of"}),
    "save": Use(saved),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("route", ROUTES)
def test_uses(route, use, tmp_path):
    posterior, one = made(route), ROUTES[route]
    message = USES[use].refused(one.has)
    if message is None:
        USES[use].run(posterior, one.x, one.y, tmp_path)
        return
    with pytest.raises((TypeError, ValueError), match=message):
        USES[use].run(posterior, one.x, one.y, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("route", ["dropout, numbers", "ensemble, mixed"])
def test_any_posterior_teaches_a_model(route):
    posterior, x = made(route), ROUTES[route].x
    classes = "classes" in ROUTES[route].has
    student = bayesian() if classes else bayesian(tfbnn.losses.NormalNLL(scale="head"), 4)
    options = {"epochs": 4, "learning_rate": 1e-2, "verbose": 0}
    history = tfbnn.distill(student, x, answers(posterior, x), **options).history
    assert history["cross_entropy"][-1] < history["cross_entropy"][0]


def test_every_route_is_in_the_table():
    assert {type(made(name)) for name in ROUTES} == set(CLASSES.values())


# Files: every target in every mode.

MODES = {
    "moments": modes.Moments(),
    "monte_carlo": modes.MonteCarlo(8),
    "ensemble": modes.Ensemble(COUNT, seed=3),
    "none": modes.Mean(),
}
NOT_DRAWN = "networks that are not drawn.*Use `uncertainty='ensemble'`"
# What each mode asks of a route in every target.
MODE_REFUSALS = {
    "moments": {"laws": NO_LAWS},
    "monte_carlo": {"drawn": NOT_DRAWN},
    "ensemble": {},
    "none": {"mean": "no network at a mean. Use `uncertainty='ensemble'`"},
}
# Calls of a file with eight networks, whose predictions are averaged.
CALLS = 16


@functools.cache
def expected(route, mode):
    """What a file should say."""
    posterior, x = made(route), ROUTES[route].x
    if mode == "none":
        outputs = posterior.network(posterior.mean(), x)[tf.newaxis]
        return {n: v.numpy() for n, v in posterior.likelihoods[0].answer(outputs).items()}
    count = COUNT if mode == "ensemble" else 512
    return named(answers(posterior, x, num_samples=count))


def test_every_target_has_a_reader():
    assert set(READERS) == set(TARGETS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("route", ROUTES)
def test_files(route, target, mode, tmp_path):
    posterior, one, path = made(route), ROUTES[route], tmp_path / "net"
    refusals = {**MODE_REFUSALS[mode], **READERS[target].refusals.get(mode, {})}
    if not isinstance(MODES[mode], TARGETS[target].modes):
        refusals = {"nothing": f"Of a file of format {target!r} `uncertainty` must be one of"}
    message = next((text for what, text in refusals.items() if what not in one.has), None)
    export = getattr(tfbnn.export, target)
    if message is not None:
        with pytest.raises((TypeError, ValueError), match=message):
            export(posterior, path, MODES[mode], check_data=one.x)
        assert not list(tmp_path.iterdir())
        return
    if READERS[target].missing:
        pytest.skip(f"not installed: {READERS[target].missing}")
    manifest = export(posterior, path, MODES[mode], check_data=one.x)
    assert (manifest["format"], manifest["mode"]) == (target, mode)
    assert manifest["posterior"] == posterior.route
    run, wanted = READERS[target].read(path, posterior), expected(route, mode)
    if mode == "monte_carlo":
        drawn_alike(run, posterior, one.x)
    elif mode == "moments":
        # Values are taken to be independent, which they are not.
        for name, value in run(one.x).items():
            difference = np.abs(value - wanted[name]).mean()
            assert difference < 0.1 * max(1.0, np.abs(wanted[name]).max()), name
    else:
        # Of an ensemble these are the networks of `tfbnn.predict` with the same seed.
        same(run(one.x), wanted, rtol=1e-5, atol=1e-5)


def drawn_alike(run, posterior, x):
    """The mean over calls is that over draws of the posterior, within its standard errors."""
    calls = np.mean([run(x)["prediction"] for _ in range(CALLS)], axis=0)
    samples = answers(posterior, x, num_samples=512, keep_samples=True).samples[0]
    # Of one number for each class and row, so that a chance of 1e-6 is small.
    error = samples.std(axis=0) * np.sqrt(1 / (8 * CALLS) + 1 / len(samples))
    assert (np.abs(calls - samples.mean(axis=0)) < 5 * error + 1e-4).all()


# A posterior whose draws are other than its laws.

WIDER = {
    "prune": lambda given, x, path: tfbnn.prune(given, sparsity=0.5),
    "compact": lambda given, x, path: tfbnn.compact(given),
    "pruning curve": lambda given, x, path: tfbnn.pruning_curve(given, x, np.arange(ROWS) % 3),
    "distill": lambda given, x, path: tfbnn.distill(given, x, answers(given, x), verbose=0),
    **{
        f"{target}, {mode}": lambda given, x, path, target=target, mode=mode: getattr(
            tfbnn.export, target
        )(given, path, mode, check_data=x)
        for target, cls in TARGETS.items()
        for mode in ("moments", "monte_carlo")
        if isinstance(MODES[mode], cls.modes)
    },
}


@pytest.fixture(scope="module")
def wider():
    return Wider(bayesian())


@pytest.mark.parametrize("use", WIDER)
def test_what_takes_the_laws_asks_whether_the_draws_have_them(use, wider, tmp_path):
    with pytest.raises(ValueError, match="other laws than those.*of type Wider"):
        WIDER[use](wider, ROUTES["mean field"].x, tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_what_takes_draws_has_those_of_the_posterior(wider, tmp_path):
    x, path = ROUTES["mean field"].x, tmp_path / "net.tflite"
    wide, narrow = (
        answers(given, x, num_samples=64).mutual_information.mean()
        for given in (wider, wider.model)
    )
    assert wide > 2 * narrow
    tfbnn.export.tflite(wider, path, MODES["ensemble"], check_data=x)
    same(tfbnn.lite.Model(path).predict(x).outputs, named(answers(wider, x)))


def test_a_class_of_posteriors_is_saved_under_its_own_name(wider, tmp_path):
    with pytest.raises(TypeError, match="give it one of its own.*Wider, route='mean_field'"):
        wider.save(tmp_path / "posterior")
    assert not list(tmp_path.iterdir())


# What is written in a file that another posterior wrote, or nobody.


def damage(path, kind):
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "no archive":
        path.write_bytes(b"nothing of the kind")
    elif kind == "a keras file":
        made("map").model.save(path.with_suffix(".keras"))
        path.write_bytes(path.with_suffix(".keras").read_bytes())
    elif kind == "a bit":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


@pytest.mark.parametrize("kind", ["truncated", "no archive", "a keras file", "a bit"])
def test_a_damaged_file_is_not_read(kind, tmp_path):
    path = tmp_path / "posterior"
    made("ensemble").save(path)
    damage(path, kind)
    message = f"{re.escape(str(path))} cannot be read as a posterior"
    with pytest.raises(ValueError, match=message):
        tfbnn.load_posterior(path)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        tfbnn.load_posterior("nowhere/posterior")


def test_a_route_of_another_version_is_named(tmp_path, monkeypatch):
    path = tmp_path / "posterior"
    made("map").save(path)
    monkeypatch.delitem(CLASSES, "map")
    with pytest.raises(ValueError, match="of a route that is not known here.*route='map'"):
        tfbnn.load_posterior(path)


def test_temperatures_are_saved(tmp_path):
    posterior = made("ensemble, mixed")
    likelihood, member = posterior.likelihoods[0], posterior.members[0].likelihoods[0]
    try:
        likelihood.mean_temperature, member.temperature = 1.5, 0.7
        posterior.save(tmp_path / "posterior")
        loaded = tfbnn.load_posterior(tmp_path / "posterior")
        x = ROUTES["ensemble, mixed"].x
        same(named(answers(loaded, x)), named(answers(posterior, x)))
    finally:
        likelihood.mean_temperature = member.temperature = 1.0
