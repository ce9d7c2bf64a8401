"""Routes: fit, save, load, clone, predict, evaluate, prune, compact, and fit again."""

import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from tests.fuzz import answers, objective
from tests.fuzz.checks import Checks, close, same
from tests.fuzz.models import Network
from tfbnn.posterior import posterior_of
from tfbnn.pruning.masks import mask_of, prunable_weights
from tfbnn.weights import noise

_NUM_SAMPLES = 4
_OPTIMIZERS = (
    *(lambda: keras.optimizers.Adam(1e-2),) * 6,
    lambda: keras.optimizers.Adam(1e-2, clipnorm=1.0),
    lambda: keras.optimizers.AdamW(1e-2),
    lambda: keras.optimizers.SGD(1e-3, momentum=0.9),
    lambda: keras.optimizers.SGD(1e-3),
    lambda: keras.optimizers.RMSprop(1e-3),
    lambda: keras.optimizers.Nadam(1e-3),
    lambda: keras.optimizers.Lion(1e-4),
    lambda: keras.optimizers.Adamax(1e-3),
    lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(1e-2, 10, 0.9)),
)


def compile_and_fit(checks: Checks, network: Network, random: np.random.Generator) -> None:
    """Compile with random options and fit on random kinds of data."""
    options = _compile_options(network, random)
    with checks.part("compile"):
        network.model.compile(**options)
    if checks.failures:
        return
    with checks.part("fit"):
        history = _fit(network, network.model, random)
        _check_history(network.model, history)


def check(
    checks: Checks, network: Network, random: np.random.Generator, folder: pathlib.Path
) -> None:
    """What is done with a trained model."""
    with checks.part("save and load"):
        _check_saved(network, folder)
    with checks.part("clone_model"):
        _check_clone(network)
    drawn, seed = None, int(random.integers(1000))
    with checks.part("predict"):
        drawn = _check_predict(network, seed)
    if drawn is not None and len(network.outputs) == 1:
        with checks.part("evaluate"):
            _check_evaluate(network, drawn, seed)
    with checks.part("check_elbo"):
        report = tfbnn.check_elbo(network.model, network.x, _targets(network), 2, verbose=0)
        expected, tolerance = _mean_nll(network), max(2e-4, objective.tolerance(network.model))
        close("check_elbo: nll_at_mean", report.nll_at_mean, expected, tolerance)
    pruned = None
    options = _pruning_options(random)
    with checks.part(f"prune: {options['granularity']}", may_refuse=True):
        pruned = _check_prune(network, options)
    if pruned is None and not checks.failures:
        # Of any network: one weight of each layer may be all there is.
        with checks.part("prune: weight"):
            pruned = _check_prune(network, {"sparsity": 0.4, "scope": "layer"})
    if pruned is not None:
        with checks.part("compact", may_refuse=True):
            _check_compact(network, pruned)
        with checks.part("fit again"):
            _check_fit_again(network, pruned, random)
        if random.random() < 0.4 and not checks.failures:
            # What follows is done with the pruned network.
            network.model = pruned


def _compile_options(network: Network, random: np.random.Generator) -> dict[str, Any]:
    losses = network.losses()
    options: dict[str, Any] = {"loss": losses[0]}
    if len(losses) > 1:
        names = network.model.output_names
        options["loss"] = dict(zip(names, losses, strict=True)) if random.random() < 0.5 else losses
        if random.random() < 0.5:
            options["loss_weights"] = [0.5, 2.0]
            if isinstance(options["loss"], dict):
                options["loss_weights"] = dict(zip(names, [0.5, 2.0], strict=True))
    elif network.outputs[0].is_categorical and random.random() < 0.5:
        options["metrics"] = ["accuracy"]
    options["optimizer"] = _OPTIMIZERS[random.integers(len(_OPTIMIZERS))]()
    if random.random() < 0.2:
        options["beta"] = 0.3
    if random.random() < 0.15:
        options["num_draws"] = 2
    schedules = (None, None, None, "minibatch_weights", tfbnn.schedules.LinearWarmUp(2))
    options["kl_schedule"] = schedules[random.integers(len(schedules))]
    options["run_eagerly"] = bool(random.random() < 0.6)
    return options


def _fit(network: Network, model: Any, random: np.random.Generator) -> dict[str, list[float]]:
    targets, rows = _targets(network), network.rows
    batch_size, epochs = int(random.integers(3, 13)), int(random.integers(1, 3))
    options: dict[str, Any] = {"epochs": epochs, "verbose": 0}
    kind = str(random.choice(["arrays", "arrays", "data set", "generator", "validation"]))
    weights = np.linspace(0.2, 1.5, rows, dtype=np.float32) if random.random() < 0.25 else None
    several = len(network.outputs) > 1
    if kind == "data set":
        x = tuple(network.x) if isinstance(network.x, list) else network.x
        y = tuple(targets) if several else targets
        data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(rows, seed=1).batch(batch_size)
        return model.fit(data, **options).history
    if kind == "generator":
        return model.fit(
            _batches(network, batch_size), steps_per_epoch=2, num_examples=rows, **options
        ).history
    if kind == "validation":
        options["validation_data"] = (network.x, targets)
    if weights is not None:
        options["sample_weight"] = [weights] * len(network.outputs) if several else weights
    return model.fit(network.x, targets, batch_size=batch_size, **options).history


def _batches(network: Network, batch_size: int) -> Any:
    several_x, several_y = isinstance(network.x, list), len(network.outputs) > 1
    while True:
        for start in range(0, network.rows, batch_size):
            rows = slice(start, start + batch_size)
            x = tuple(a[rows] for a in network.x) if several_x else network.x[rows]
            y = tuple(a[rows] for a in network.targets) if several_y else network.targets[0][rows]
            yield x, y


def _targets(network: Network) -> Any:
    return network.targets if len(network.targets) > 1 else network.targets[0]


def _check_history(model: Any, history: dict[str, list[float]]) -> None:
    values = {name: np.array(numbers) for name, numbers in history.items()}
    for name, numbers in values.items():
        if not np.isfinite(numbers).all():
            raise AssertionError(f"history: {name} is not finite: {numbers}")
    if model.objective.kl_schedule is None:
        expected = np.full(len(values["kl"]), model.objective.beta / model.num_examples)
        close("history: kl_weight", values["kl_weight"], expected, 1e-6)
        close("history: weighted_kl", values["weighted_kl"], values["kl"] * expected, 1e-4)


def _check_saved(network: Network, folder: pathlib.Path) -> None:
    path = folder / "model.keras"
    network.model.save(path)
    loaded = tfbnn.load_model(path)
    pairs = zip(objective.outputs_of(network, loaded), objective.outputs_of(network), strict=True)
    for found, expected in pairs:
        same("predictions of the loaded model", found, expected)
    found, expected = (
        tf.nest.flatten(_prediction(model, network, 3)) for model in (loaded, network.model)
    )
    for one, other in zip(found, expected, strict=True):
        same("tfbnn.predict of the loaded model", one, other)
    if len(loaded.optimizer.variables) != len(network.model.optimizer.variables):
        raise AssertionError("The loaded model has another optimizer.")


def _prediction(model: Any, network: Network, seed: int) -> list[np.ndarray]:
    answer = tfbnn.predict(model, network.x, _NUM_SAMPLES, seed=seed, verbose=0)
    listed = answer if isinstance(answer, list) else [answer]
    return [np.asarray(one.prediction) for one in listed]


def _check_clone(network: Network) -> None:
    clone = tfbnn.clone_model(network.model)
    if not clone.built:
        clone(tf.nest.map_structure(lambda a: a[:2], network.x))
    own, theirs = map(_weights_but_noise, (network.model, clone))
    for new, old in zip(theirs, own, strict=True):
        new.assign(old)
    pairs = zip(objective.outputs_of(network, clone), objective.outputs_of(network), strict=True)
    for found, expected in pairs:
        same("predictions of the clone", found, expected)
    same("classes", type(clone).__name__, type(network.model).__name__)


def _weights_but_noise(model: Any) -> list[Any]:
    noise = {id(v) for one in model.likelihoods for v in getattr(one.loss, "variables", [])}
    return [variable for variable in model.weights if id(variable) not in noise]


def _check_predict(network: Network, seed: int) -> list[np.ndarray]:
    """Compare with our own average; the outputs of each network, `(networks, rows, ...)` each."""
    model = network.model
    answer = tfbnn.predict(model, network.x, _NUM_SAMPLES, batch_size=9, seed=seed, verbose=0)
    found = answer if isinstance(answer, list) else [answer]
    posterior = posterior_of(model)
    draws = posterior.draws(noise.as_seed(seed), 0, _NUM_SAMPLES)
    kept = [np.asarray(variable) for variable in posterior.variables]
    drawn = []
    try:
        for number in range(_NUM_SAMPLES):
            for variable, values in zip(posterior.variables, draws, strict=True):
                variable.assign(values[number])
            drawn.append(objective.outputs_of(network))
    finally:
        for variable, value in zip(posterior.variables, kept, strict=True):
            variable.assign(value)
    networks = [np.stack(values) for values in zip(*drawn, strict=True)]
    tolerance = objective.tolerance(model)
    scales = objective.learned_scales(model)
    for one, output, values, scale in zip(found, network.outputs, networks, scales, strict=True):
        expected = output.answer(values, scale)
        close("predict: prediction", one.prediction, expected["prediction"], tolerance)
        close("predict: uncertainty", one.uncertainty, expected["uncertainty"], 5 * tolerance)
        third = "epistemic" if output.is_real else "mutual_information"
        close(f"predict: {third}", getattr(one, third), expected[third], 20 * tolerance)
    return networks


def _check_evaluate(network: Network, networks: list[np.ndarray], seed: int) -> None:
    """The NLL of the mean over the same networks: in nats per example, of the steps that count."""
    output, y, model = network.outputs[0], network.targets[0], network.model
    found = tfbnn.evaluate(model, network.x, y, _NUM_SAMPLES, seed=seed, verbose=0).scores()
    for name, score in found.items():
        if not np.isfinite(score):
            raise AssertionError(f"evaluate: {name} is {score}")
    scale = objective.learned_scales(model)[0]
    log_prob = np.stack([output.log_prob(y, values, scale) for values in networks[0]])
    rows = answers.rows_of(answers.mean_over_networks(log_prob), network.masks[0])
    close("evaluate: nll", found["nll"], -rows.mean(), 5 * objective.tolerance(model))


def _mean_nll(network: Network) -> float:
    return objective.own_nll(network, objective.outputs_of(network))


def _pruning_options(random: np.random.Generator) -> dict[str, Any]:
    return {
        "sparsity": float(random.uniform(0.1, 0.8)),
        "criterion": str(random.choice(["snr", "snr", "zero_density", "savage_dickey"])),
        "scope": str(random.choice(["global", "layer"])),
        "granularity": str(random.choice(["weight", "weight", "block", "unit"])),
    }


def _check_prune(network: Network, options: dict[str, Any]) -> Any:
    pruned = tfbnn.prune(network.model, **options)
    before = objective.outputs_of(network)
    kept = [np.asarray(weight.loc_variable) for weight in prunable_weights(network.model)]
    try:
        for weight, twin in zip(
            prunable_weights(network.model), prunable_weights(pruned), strict=True
        ):
            weight.loc_variable.assign(np.asarray(weight.loc_variable) * mask_of(twin))
        expected = objective.outputs_of(network)
    finally:
        for weight, value in zip(prunable_weights(network.model), kept, strict=True):
            weight.loc_variable.assign(value)
    for one, other in zip(objective.outputs_of(network, pruned), expected, strict=True):
        close("predictions of the pruned model", one, other, objective.tolerance(pruned))
    for one, other in zip(objective.outputs_of(network), before, strict=True):
        same("predictions of the model that was pruned", one, other)
    return pruned


def _check_compact(network: Network, pruned: Any) -> None:
    compacted = tfbnn.compact(pruned)
    pairs = zip(
        objective.outputs_of(network, compacted),
        objective.outputs_of(network, pruned),
        strict=True,
    )
    for found, expected in pairs:
        close("predictions of the compact model", found, expected, objective.tolerance(pruned))


def _check_fit_again(network: Network, pruned: Any, random: np.random.Generator) -> None:
    masks = [np.asarray(mask_of(weight)) for weight in prunable_weights(pruned)]
    history = _fit(network, pruned, random)
    _check_history(pruned, history)
    for weight, mask in zip(prunable_weights(pruned), masks, strict=True):
        same("mask", mask_of(weight), mask)
        same("pruned means", weight.loc.numpy()[mask == 0], np.zeros(int((mask == 0).sum())))
        same("pruned scales", weight.scale.numpy()[mask == 0], np.zeros(int((mask == 0).sum())))
