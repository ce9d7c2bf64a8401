"""Callables: every public one with a way to call it rightly, and what each argument may be.

`test_arguments.py` compares the table with the signatures, so that a new argument needs a row.
"""

import dataclasses
import functools
import inspect
import json
import pathlib
import tempfile
import typing
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner
import numpy as np

import tfbnn
from tests.fuzz import values
from tests.fuzz.values import LARGEST, Kind
from tests.linear_maps import ESTIMATORS
from tfbnn.posterior.swag import WeightMoments
from tfbnn.scores import (
    class_scores,
    class_uncertainty,
    diagrams,
    number_scores,
    number_uncertainty,
    risk_coverage,
    temperature,
)
from tfbnn.training import strategies
from trainers.search_settings import SearchSettings
from trainers.settings import Settings


@dataclasses.dataclass(frozen=True)
class Entry:
    """A callable.

    Attributes:
        name: As a user writes it.
        call: It, or a function that calls it and uses up what it gives.
        right: Makes the arguments of a right call.
        kinds: What each argument may be.
        others: Arguments that are tried elsewhere, or are Keras' own and handed on.
        after: What the result must go through when a value was accepted.
        state: What an error must leave as it was, to be compared.
        slow: Whether a right call takes seconds: then only bad values are tried.
        public: Whose signature it is; `call` by default.
        aliases: What messages may call an argument instead.
        of_keras: Arguments that Keras interprets: what it takes, it may be unable to save.
    """

    name: str
    call: Callable[..., Any]
    right: Callable[[], dict[str, Any]]
    kinds: dict[str, Kind]
    others: tuple[str, ...] = ()
    after: Callable[[Any], Any] = lambda result: None
    state: Callable[[], Any] = lambda: None
    slow: bool = False
    public: Callable[..., Any] | None = None
    aliases: tuple[str, ...] = ()
    of_keras: tuple[str, ...] = ()


class World:
    """Models and files that the calls share, made once."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tfbnn-arguments-"))
        self.x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
        # Labels as the model says, but for one.
        self.said = (self.x[:, 0] < 0).astype(int)
        self.y = np.where(np.arange(6) == 0, 1 - self.said, self.said)
        self.model = _classifier()
        self.model.layers[0].kernel.loc_variable.assign([[3, -3], [0, 0], [0, 0]])
        self.model.num_examples = 6
        self.normal = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(1)])
        self.normal.compile(loss=tfbnn.losses.NormalNLL(1.0))
        self.answers = tfbnn.predict(self.model, self.x, num_samples=2, seed=0, verbose=0)
        self.predicted = tfbnn.predict(self.normal, self.x, num_samples=2, seed=0, verbose=0)
        self.curve = tfbnn.pruning_curve(self.model, self.x, self.y, [0.0], num_samples=1)
        self.hypermodel = tfbnn.search.BayesianHyperModel((3,), outputs=2)
        self.tuner = tfbnn.search.open_tuner(
            "random", self.hypermodel, self.folder / "search", max_trials=1
        )
        self.file = self.folder / "model.tflite"
        tfbnn.export.tflite(self.model, self.file, "moments", check_data=self.x)
        self.decided = self.folder / "decided.tflite"
        tfbnn.export.tflite(self.model, self.decided, "moments", check_data=self.x)
        self.plain = _plain()
        self.optimized = _optimized()
        self.posterior_file = self.folder / "posterior"
        tfbnn.posteriors.MAP(self.plain).save(self.posterior_file)
        self.keras_file = self.folder / "model.keras"
        self.model.save(self.keras_file)
        self._runs = 0

    def new(self, name: str) -> str:
        """A path in the folder that nothing has yet."""
        self._runs += 1
        return str(self.folder / f"run{self._runs}" / name)

    def files(self) -> list[str]:
        """All there is in the folder."""
        return sorted(str(path) for path in self.folder.rglob("*"))

    def state(self) -> tuple[Any, ...]:
        """What the shared model is, and which files there are."""
        model = self.model
        return (
            [array.tobytes() for array in model.get_weights()],
            [id(likelihood) for likelihood in model.likelihoods],
            [(one.temperature, one.mean_temperature) for one in model.likelihoods],
            (model.num_draws, model.num_examples, model.objective.beta),
            id(model.objective.kl_schedule),
            id(model.optimizer),
            self.files(),
        )


@functools.cache
def world() -> World:
    """The one of this process."""
    return World()


def _classifier() -> Any:
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=loss)
    return model


def _optimized() -> Any:
    model = tfbnn.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tfbnn.optimizers.IVON(), loss=loss)
    model.fit(np.eye(3), np.arange(3) % 2, verbose=0)
    return model


def _plain() -> Any:
    layers = [keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def table(made: World) -> list[Entry]:
    """Every public callable."""
    return [
        *_priors_and_families(),
        *_layers(made),
        *_training(made),
        *_posteriors(made),
        *_prediction(made),
        *_inspection(made),
        *_scores(made),
        *_pruning(made),
        *_exports(made),
        *_search(made),
        *_trainers(),
    ]


# Prior, family and schedule by a name, an object or a configuration.
_NAMED = values.anything()
_PRIOR_OR_SCALE = values.any_of(values.scale(), _NAMED)
_TITLE = values.optional(values.text())
_PROBABILITY = values.real(0, 1, inside=True, single=False)


def _priors_and_families() -> list[Entry]:
    loc = values.real(-1e6, 1e6)
    laws = {
        "Normal": {"loc": loc, "scale": values.scale()},
        "Laplace": {"loc": loc, "scale": values.scale()},
        "Cauchy": {"loc": loc, "scale": values.scale()},
        "StudentT": {"df": values.real(1e-6, 1e12), "loc": loc, "scale": values.scale()},
        "ScaleMixture": {
            "pi": values.real(0, 1, inside=True),
            "sigma1": values.scale(),
            "sigma2": values.scale(),
        },
    }
    priors = [
        Entry(f"tfbnn.priors.{name}", getattr(tfbnn.priors, name), dict, kinds, after=_use_prior)
        for name, kinds in laws.items()
    ]
    families = tfbnn.families
    law = tfbnn.priors.Normal().distribution
    return [
        *priors,
        Entry(
            "tfbnn.priors.Distribution",
            tfbnn.priors.Distribution,
            lambda: {"distribution": law()},
            {"distribution": values.thing()},
        ),
        Entry(
            "tfbnn.priors.Informative",
            tfbnn.priors.Informative,
            dict,
            {"scale": values.scale()},
            after=_use_prior,
        ),
        Entry(
            "tfbnn.priors.FanIn",
            tfbnn.priors.FanIn,
            dict,
            {"variance": values.real(1e-24, 1e24), "smallest_scale": values.real(0, 1e12)},
            after=lambda prior: _use_prior(prior.at_fan_in(3)),
        ),
        Entry(
            "tfbnn.priors.AutomaticRelevance",
            tfbnn.priors.AutomaticRelevance,
            dict,
            {
                "smallest_scale": values.any_of(values.scale(), values.choice("fan_in")),
                "largest_scale": values.any_of(values.scale(), values.choice("fan_in")),
            },
            after=lambda prior: _use_layer(
                tfbnn.layers.DenseFlipout(2, kernel_prior=prior), (2, 3)
            ),
        ),
        _one("tfbnn.priors.get", tfbnn.priors.get, "identifier", "normal", after=_use_prior),
        _one("tfbnn.families.get", families.get, "identifier", "normal", after=_use_family),
        Entry(
            "tfbnn.families.Normal",
            families.Normal,
            dict,
            {"initial_scale": values.any_of(values.scale(), values.choice("fan_in"))},
            after=_use_family,
        ),
        Entry("tfbnn.families.Point", families.Point, dict, {}),
    ]


def _layers(made: World) -> list[Entry]:
    common = {
        "activation": values.anything(),
        "use_bias": values.boolean(),
        "kernel_initializer": values.anything(),
        "bias_initializer": values.anything(),
        "kernel_regularizer": values.Kind("None", lambda value: value is None),
        "bias_regularizer": values.anything(),
        "activity_regularizer": values.anything(),
        "kernel_constraint": values.anything(),
        "bias_constraint": values.anything(),
        "kernel_prior": _NAMED,
        "kernel_posterior": _NAMED,
        "bias_prior": _NAMED,
        "bias_posterior": _NAMED,
        "kl_weight": values.optional(values.real(0)),
        "masked": values.boolean(),
        "seed": values.optional(values.whole(-(2**63), 2**63 - 1)),
    }
    made_of_kernels = [
        value
        for name, value in vars(tfbnn.layers).items()
        if isinstance(value, type)
        and issubclass(value, tfbnn.layers.AbstractLinearLayer)
        and not name.startswith("Abstract")
    ]
    entries = [_layer(cls, common) for cls in made_of_kernels]
    for name in ("random_maps", "variational_layers", "variational_weights"):
        function = getattr(tfbnn.layers, name)
        entries.append(
            Entry(
                f"tfbnn.layers.{name}",
                lambda model, function=function: list(function(model)),
                lambda: {"model": made.model},
                {"model": values.thing(keras.Layer)},
                public=function,
            )
        )
    return entries


_OF_KERAS = ("activation", "initializer", "regularizer", "constraint")


def _layer(cls: type, common: dict[str, Kind]) -> Entry:
    rank = getattr(cls, "rank", 0)
    per_axis = values.any_of(values.whole(), _several(values.whole(), rank))
    names = inspect.signature(cls).parameters
    kinds = {
        "units": values.whole(),
        "filters": values.whole(),
        "kernel_size": per_axis,
        # One for all axes: TensorFlow has no others for depthwise convolutions.
        "strides": per_axis if "filters" in names else values.whole(),
        "padding": values.choice("valid", "same"),
        "depth_multiplier": values.whole(),
        "data_format": values.optional(values.choice("channels_last", "channels_first")),
        "dilation_rate": per_axis,
        "groups": _divisor_of(30),
        # Less than the strides, which are 1 here.
        "output_padding": values.optional(values.whole(0, 0)),
    }
    own = {name: kind for name, kind in kinds.items() if name in names}
    estimators = [cls.estimator] if cls.estimator else ESTIMATORS
    own["estimator"] = values.optional(values.choice(*estimators))
    sizes = {"filters": 30, "kernel_size": 1, "units": 2}
    right = {name: size for name, size in sizes.items() if name in names}
    return Entry(
        f"tfbnn.layers.{cls.__name__}",
        cls,
        lambda: right,
        {**own, **common},
        others=("kwargs",),
        after=lambda layer: _use_layer(layer, (2, *[8] * rank, 30)),
        of_keras=tuple(name for name in common if name.endswith(_OF_KERAS)),
    )


_TF_CONFIG = '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'


def _training(made: World) -> list[Entry]:
    in_fit = ("x", "y", "batch_size", "epochs", "verbose", "callbacks", "validation_split")
    in_fit += ("validation_data", "shuffle", "class_weight", "sample_weight", "initial_epoch")
    in_fit += ("steps_per_epoch", "validation_steps", "validation_batch_size", "validation_freq")
    loss = made.model.likelihoods[0].loss
    examples = values.optional(values.whole(1, 2**63 - 1))
    quantiles = Kind("rising levels", _rising)
    return [
        Entry(
            "tfbnn.Sequential",
            tfbnn.Sequential,
            dict,
            {"num_examples": examples},
            ("layers", "args", "kwargs"),
        ),
        Entry(
            "tfbnn.Model",
            lambda num_examples=None: tfbnn.Model(num_examples=num_examples),
            dict,
            {"num_examples": examples},
            ("args", "kwargs"),
            public=tfbnn.Model,
        ),
        Entry(
            "tfbnn.Sequential.num_examples",
            lambda value: setattr(made.model, "num_examples", value),
            lambda: {"value": 6},
            {"value": values.whole(1, 2**63 - 1)},
            aliases=("num_examples",),
            after=lambda result: setattr(made.model, "num_examples", 6),
            state=made.state,
        ),
        Entry(
            "tfbnn.Sequential.compile",
            lambda **options: made.model.compile("sgd", loss, **options),
            dict,
            {
                "recipe": _NAMED,
                "beta": values.optional(values.real(0)),
                "kl_schedule": _NAMED,
                "num_draws": values.whole(),
                "loss_weights": values.anything(),
            },
            ("optimizer", "loss", "args", "kwargs"),
            after=lambda result: made.model.compile("sgd", loss),
            state=made.state,
            public=made.model.compile,
        ),
        Entry(
            "tfbnn.Sequential.fit",
            lambda **options: made.model.fit(made.x, made.y, verbose=0, **options),
            dict,
            {"num_examples": examples},
            in_fit,
            state=made.state,
            slow=True,
            public=made.model.fit,
        ),
        _of_model("tfbnn.clone_model", tfbnn.clone_model, made),
        Entry(
            "tfbnn.to_bayesian",
            tfbnn.to_bayesian,
            lambda: {"model": made.plain, "verbose": 0},
            {
                "model": values.thing(keras.Model),
                "estimator": values.optional(values.choice(*ESTIMATORS)),
                "prior": values.optional(values.thing()),
                "scale": values.optional(values.scale()),
                "layers": values.anything(),
                "fresh": values.boolean(),
                "num_examples": values.optional(values.whole()),
                "verbose": values.verbosity(),
            },
        ),
        _of_model("tfbnn.to_deterministic", tfbnn.to_deterministic, made),
        Entry(
            "tfbnn.with_prior",
            tfbnn.with_prior,
            lambda: {"model": made.plain, "prior": 1.0, "num_examples": 6},
            {
                "model": values.thing(keras.Model),
                "prior": _PRIOR_OR_SCALE,
                "num_examples": values.whole(),
            },
        ),
        Entry(
            "tfbnn.load_model",
            tfbnn.load_model,
            lambda: {"path": made.keras_file},
            {"path": values.path()},
            ("kwargs",),
            slow=True,
        ),
        _of_model(
            "tfbnn.check_elbo",
            tfbnn.check_elbo,
            made,
            {"x": made.x, "y": made.y, "verbose": 0, "num_draws": 1},
            {
                "x": values.rows(),
                "y": values.optional(values.array()),
                "sample_weight": values.optional(values.array()),
                "num_draws": values.whole(),
                "batch_size": values.whole(),
                "verbose": values.verbosity(),
            },
        ),
        Entry(
            "tfbnn.losses.NormalNLL",
            tfbnn.losses.NormalNLL,
            dict,
            {
                "scale": values.any_of(values.scale(), values.choice("learned", "head")),
                "initial_scale": values.optional(values.real(1e-6, 1e12, inside=True)),
                "name": values.text(),
                "num_scales": values.optional(values.whole()),
            },
            after=_use_loss,
        ),
        Entry(
            "tfbnn.losses.PoissonNLL",
            tfbnn.losses.PoissonNLL,
            dict,
            {"name": values.text()},
            after=lambda loss: json.dumps(_serialized(loss)),
        ),
        Entry(
            "tfbnn.schedules.LinearWarmUp",
            tfbnn.schedules.LinearWarmUp,
            lambda: {"epochs": 2},
            {"epochs": values.real(0, 1e9, inside=True)},
            after=_use_schedule,
        ),
        Entry(
            "tfbnn.optimizers.IVON",
            tfbnn.optimizers.IVON,
            dict,
            {
                "learning_rate": values.anything(),
                "prior_scale": values.any_of(values.scale(), values.choice("fan_in")),
                "initial_hessian": values.real(0, inside=True),
                "beta_1": values.real(0, 0.9999),
                "beta_2": values.optional(values.real(0, 1)),
                "clip": values.real(0, inside=True),
                "examples_per_weight": values.real(0),
                "seed": values.optional(values.whole(-(2**63), 2**63 - 1)),
                "name": values.text(),
            },
        ),
        Entry("tfbnn.schedules.MinibatchWeights", tfbnn.schedules.MinibatchWeights, dict, {}),
        Entry(
            "tfbnn.recipes.Recipe",
            tfbnn.recipes.Recipe,
            dict,
            {
                "beta": values.real(0),
                "learning_rate": values.optional(values.real(0, inside=True)),
                "rho_factor": values.real(0, inside=True),
                "warm_up": values.real(0, 1),
            },
            after=lambda recipe: json.dumps(_serialized(recipe)),
        ),
        _one("tfbnn.recipes.get", tfbnn.recipes.get, "identifier", None, aliases=("recipe",)),
        _one("tfbnn.schedules.get", tfbnn.schedules.get, "identifier", None, after=_use_schedule),
        Entry(
            "tfbnn.callbacks.SigmaLogger",
            tfbnn.callbacks.SigmaLogger,
            lambda: {"log_dir": made.new("logs")},
            {
                "log_dir": values.path(),
                "every": values.any_of(values.whole(), values.choice("epoch")),
                "quantiles": quantiles,
                **dict.fromkeys(("tensorboard", "csv", "picture", "append"), values.boolean()),
            },
            state=made.files,
        ),
        Entry(
            "tfbnn.callbacks.ResumeTraining",
            tfbnn.callbacks.ResumeTraining,
            lambda: {"folder": made.new("state")},
            {"folder": values.path(), "every": values.whole(), "keep": values.boolean()},
            state=made.files,
        ),
        Entry(
            "tfbnn.callbacks.StopWhenSigmaSettles",
            tfbnn.callbacks.StopWhenSigmaSettles,
            dict,
            {"largest_pull": values.real(0, inside=True), "patience": values.whole()},
        ),
        Entry(
            "tfbnn.callbacks.SWAG",
            tfbnn.callbacks.SWAG,
            dict,
            {
                "start": values.whole(0),
                "rank": values.any_of(values.whole(0, 0), values.whole(2)),
                "every": values.whole(),
            },
        ),
        Entry(
            "tfbnn.callbacks.sigma_statistics",
            tfbnn.callbacks.sigma_statistics,
            lambda: {"weight": made.model.layers[0].kernel},
            {"weight": values.thing(), "quantiles": quantiles},
            after=json.dumps,
        ),
        Entry(
            "tfbnn.training.strategies.get",
            strategies.get,
            lambda: {"identifier": "one_device"},
            {
                "identifier": values.choice("auto", "one_device"),
                "devices": values.optional(
                    Kind(
                        "devices",
                        lambda v: None if isinstance(v, list | tuple) and not v else False,
                    )
                ),
                "time_limit": values.real(0),
            },
        ),
        Entry(
            "tfbnn.training.strategies.cluster_of",
            strategies.cluster_of,
            lambda: {
                "text": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'
            },
            {"text": Kind("TF_CONFIG", lambda value: False)},
            aliases=("TF_CONFIG",),
        ),
    ]


def _moments(model: keras.Model) -> Any:
    arrays = [np.array(variable) for variable in model.trainable_variables]
    return WeightMoments(arrays, [0 * a for a in arrays], [np.zeros((0, *a.shape)) for a in arrays])


def _posteriors(made: World) -> list[Entry]:
    posteriors = tfbnn.posteriors
    positive = values.real(0, inside=True)
    # One follows from all three, and may be out of the range of a scale.
    sound = Kind("sound", lambda v: None if positive.fits(v) else False)
    tied = {"length_scale": 1.0, "num_examples": 10, "weight_decay": 0.1}
    of_base = ("likelihoods",)
    return [
        *(
            Entry(
                f"tfbnn.posteriors.{name}",
                getattr(posteriors, name),
                lambda model=model: {"model": model},
                {"model": values.thing()},
                of_base,
                after=lambda posterior: tfbnn.predict(posterior, made.x, 1, verbose=0),
            )
            for name, model in (("MAP", made.plain), ("MeanFieldPosterior", made.model))
        ),
        Entry(
            "tfbnn.posteriors.IVON",
            posteriors.IVON,
            lambda: {"model": made.optimized},
            {"model": values.thing()},
            of_base,
        ),
        Entry(
            "tfbnn.posteriors.SWAG",
            posteriors.SWAG,
            lambda: {"model": made.plain, "moments": _moments(made.plain)},
            {"model": values.thing(), "moments": values.thing()},
            of_base,
            after=lambda posterior: tfbnn.predict(posterior, made.x, 1, verbose=0),
        ),
        Entry(
            "tfbnn.posteriors.Ensemble",
            posteriors.Ensemble,
            lambda: {"models": [made.plain, made.plain]},
            {"models": values.listed(values.thing(), empty=False)},
            ("model", *of_base),
        ),
        Entry(
            "tfbnn.posteriors.GaussianPosterior",
            posteriors.GaussianPosterior,
            lambda: {
                "model": made.model,
                "likelihoods": made.model.likelihoods,
                "laws": posteriors.MeanFieldPosterior(made.model).laws(),
            },
            {"model": values.thing(), "laws": values.thing()},
            of_base,
            after=lambda posterior: tfbnn.predict(posterior, made.x, 1, verbose=0),
        ),
        Entry(
            "tfbnn.posteriors.MCDropout",
            posteriors.MCDropout,
            lambda: {"model": made.plain, **tied},
            {
                "model": values.thing(),
                "loss": Kind("None", lambda v: v is None),
                "length_scale": sound,
                "num_examples": Kind("count", lambda v: None if values.whole().fits(v) else False),
                "weight_decay": sound,
            },
            of_base,
        ),
        Entry(
            "tfbnn.posteriors.Laplace",
            posteriors.Laplace,
            lambda: {"model": made.plain, "x": made.x, "y": made.y, "verbose": 0},
            {
                "model": values.thing(),
                "x": values.rows(),
                "y": values.array(),
                "structure": values.choice("diagonal", "kronecker", "full", "last_layer"),
                "curvature": values.optional(values.choice("exact", "sampled")),
                # `"validation"` asks for data, which are tried elsewhere.
                "prior_precision": values.any_of(
                    values.choice("consistent", "marginal_likelihood"), values.real(1e-10, 1e10)
                ),
                "predictive": values.choice("linearised", "sampled"),
                "temperature": positive,
                "verbose": values.verbosity(),
            },
            ("validation_data", *of_base),
            slow=True,
        ),
        Entry(
            "tfbnn.posteriors.MCMC",
            posteriors.MCMC,
            lambda: {"model": made.plain, "x": made.x, "y": made.y, "prior": 1.0, "verbose": 0},
            {
                "model": values.thing(),
                "x": values.rows(),
                "y": values.array(),
                "kernel": values.choice("nuts", "hmc", "random_walk"),
                "prior": _PRIOR_OR_SCALE,
                "chains": values.whole(2),
                "samples": values.whole(4),
                "warmup": values.whole(4),
                "seed": values.optional(values.whole(-(2**63), 2**63 - 1)),
                "verbose": values.verbosity(),
            },
            of_base,
            slow=True,
        ),
        Entry(
            "tfbnn.continue_from",
            tfbnn.continue_from,
            lambda: {"posterior": made.model},
            {"posterior": values.thing(keras.Model)},
            state=made.state,
            aliases=("model",),
        ),
        Entry(
            "tfbnn.load_posterior",
            tfbnn.load_posterior,
            lambda: {"path": made.posterior_file},
            {"path": values.path()},
            ("kwargs",),
            slow=True,
        ),
    ]


def _prediction(made: World) -> list[Entry]:
    seed = values.optional(values.whole(-(2**63), 2**63 - 1))
    drawing = {
        "num_samples": values.whole(),
        "batch_size": values.whole(),
        "seed": seed,
        "verbose": values.verbosity(),
    }
    kept = {
        "keep_samples": values.optional(values.boolean()),
        # No bad value is the name of a layer.
        "layers": values.optional(Kind("names of layers", lambda v: False)),
    }
    right = {"x": made.x, "num_samples": 1, "verbose": 0}
    labelled = {**right, "y": made.y}
    y = values.optional(values.array())
    return [
        _of_model(
            "tfbnn.predict", tfbnn.predict, made, right, {"x": values.rows(), **drawing, **kept}
        ),
        _of_model(
            "tfbnn.evaluate",
            tfbnn.evaluate,
            made,
            labelled,
            {"x": values.rows(), "y": _unless_none(y), "sample_weight": y, **drawing},
            aliases=("labels", "y", "Sample weights"),
        ),
        _of_model(
            "tfbnn.calibrate",
            tfbnn.calibrate,
            made,
            labelled,
            {
                "x": values.rows(),
                "y": _unless_none(y),
                "sample_weight": y,
                "of": values.choice("best", "draws", "mean"),
                **drawing,
            },
            aliases=("labels", "y", "Sample weights"),
            after=lambda result: made.model.likelihood.take_temperatures(
                made.model.likelihood.at()
            ),
            slow=True,
        ),
        *_decisions(made, drawing, y),
        *(
            Entry(
                f"{type(answer).__name__}.{name}",
                getattr(answer, name),
                lambda argument=argument: {argument: 0.5},
                {argument: kind},
            )
            for answer, ends in ((made.answers, False), (made.predicted, True))
            for name, argument, kind in (
                ("quantile", "q", values.real(0, 1, inside=ends, single=False)),
                ("credible_interval", "mass", _PROBABILITY),
            )
        ),
        Entry(
            "tfbnn.lite.Model",
            tfbnn.lite.Model,
            lambda: {"path": made.file},
            {"path": values.path(), "num_threads": values.whole()},
        ),
        Entry(
            "tfbnn.lite.Model.predict",
            tfbnn.lite.Model(made.file).predict,
            lambda: {"x": made.x},
            {"x": values.array()},
        ),
    ]


def _decisions(made: World, drawing: dict[str, Kind], y: Kind) -> list[Entry]:
    x = np.tile(made.x, (20, 1))
    right = {"x": x, "y": np.tile(made.said, 20), "num_samples": 1, "seed": 0}
    common = {"x": values.rows(), "y": _unless_none(y), **drawing}
    del common["verbose"]
    # How many rows a number asks for is another thing.
    share = Kind(_PROBABILITY.name, lambda value: _PROBABILITY.fits(value) and None)
    aliases = ("labels", "y")
    sets = {
        "coverage": share,
        "penalty": values.real(0, 1),
        "num_unpenalised": values.whole(0),
        "randomised": values.boolean(),
    }
    acceptance = {
        "risk": share,
        "confidence": share,
        # Of classes there is none.
        "tolerance": Kind("None", lambda value: value is None),
    }
    return [
        _of_model("tfbnn.conformal", tfbnn.conformal, made, right, common | sets, aliases=aliases),
        Entry(
            "tfbnn.decide",
            tfbnn.decide,
            lambda: {"path": made.decided, "x": x, "y": right["y"], "coverage": 0.5, "risk": 0.5},
            {
                "path": values.path(),
                "x": values.array(),
                "y": values.array(),
                **{name: values.optional(share) for name in ("coverage", "risk")},
                **{name: sets[name] for name in ("penalty", "num_unpenalised")},
                **{name: acceptance[name] for name in ("confidence", "tolerance")},
            },
            aliases=("labels",),
        ),
        _of_model(
            "tfbnn.selective",
            tfbnn.selective,
            made,
            {**right, "risk": 0.5},
            common | acceptance,
            aliases=aliases,
        ),
    ]


def _inspection(made: World) -> list[Entry]:
    picture = {"path": values.optional(values.path()), "title": values.text()}
    found = tfbnn.layer_uncertainty(made.model)
    posterior = tfbnn.posteriors.MeanFieldPosterior(made.model)
    return [
        _of_model(
            "tfbnn.layer_uncertainty",
            tfbnn.layer_uncertainty,
            made,
            {"x": made.x, "num_samples": 2, "verbose": 0},
            {
                "x": values.optional(values.rows()),
                "num_samples": values.whole(2),
                "batch_size": values.whole(),
                "seed": values.optional(values.whole(-(2**63), 2**63 - 1)),
                "verbose": values.verbosity(),
            },
            after=str,
        ),
        Entry("LayerUncertainty.plot", found.plot, dict, picture, slow=True),
        _of_model(
            "tfbnn.plot_network",
            tfbnn.plot_network,
            made,
            kinds={"after": values.optional(values.thing(keras.Model)), **picture},
            aliases=("model",),
        ),
        *(
            Entry(name, call, lambda: {"mass": 0.5}, {"mass": _PROBABILITY})
            for name, call in (
                ("LayerRecord.interval", found.layers[0].interval),
                ("posterior.interval", posterior.interval),
            )
        ),
    ]


def _scores(made: World) -> list[Entry]:
    probabilities = np.full((2, 6, 2), 0.5)
    labelled = {"probabilities": probabilities[0], "labels": made.y}
    weights = {"weights": values.optional(values.array())}
    bins = {"num_bins": values.whole(1, 10**6), **weights}
    one = np.ones((2, 6, 1))
    normals = {"loc": one, "scale": one}
    targets = np.zeros((6, 1))
    rows = {
        class_scores: (
            (("as_categorical",), {"probabilities": probabilities}, {}),
            (("negative_log_likelihood", "error", "brier_score"), labelled, weights),
            (("reliability", "expected_calibration_error"), labelled, bins),
        ),
        temperature: (
            (
                ("fit_temperature",),
                {"logits": np.eye(2)[None, made.said] * 2, "labels": made.y},
                weights,
            ),
        ),
        class_uncertainty: (
            (("entropy", "predictive_entropy"), {"probabilities": probabilities}, {}),
            (("expected_entropy", "mutual_information"), {"probabilities": probabilities}, {}),
            (("variation_ratio", "variance"), {"probabilities": probabilities}, {}),
        ),
        number_uncertainty: (
            (("sample_quantile",), {"samples": one}, {"q": values.real(0, 1, single=False)}),
            (("epistemic_variance",), {"loc": one}, {}),
            (("aleatoric_variance", "total_standard_deviation"), normals, {}),
            (("mixture_quantile",), normals, {"q": _PROBABILITY}),
            (("credible_interval",), normals, {"mass": _PROBABILITY}),
        ),
        number_scores: (
            (("normal_negative_log_likelihood",), {**normals, "targets": targets}, weights),
            (("root_mean_squared_error",), {"predictions": targets, "targets": targets}, weights),
            (
                ("interval_coverage",),
                {"lower": targets, "upper": targets, "targets": targets},
                weights,
            ),
        ),
        diagrams: (
            (
                ("reliability_diagram",),
                {**labelled},
                {**bins, "path": values.optional(values.path()), "title": _TITLE},
            ),
            (
                ("risk_coverage_diagram",),
                {"wrong": made.y, "uncertainty": made.x[:, 0]},
                {
                    "path": values.optional(values.path()),
                    "title": _TITLE,
                    "risk": values.optional(values.real(0, 1)),
                    "coverage": values.optional(values.real(0, 1)),
                },
            ),
        ),
        risk_coverage: (
            (
                ("risk_coverage", "area_under_risk_coverage"),
                {"wrong": made.y, "uncertainty": made.x[:, 0]},
                {},
            ),
        ),
    }
    return [
        Entry(
            f"{module.__name__}.{name}",
            getattr(module, name),
            lambda right=right, kinds=kinds: {**right, **({"q": 0.5} if "q" in kinds else {})},
            {**dict.fromkeys(right, values.array()), **kinds},
            aliases=tuple(right),
        )
        for module, groups in rows.items()
        for names, right, kinds in groups
        for name in names
    ]


def _pruning(made: World) -> list[Entry]:
    share = Kind("share", lambda v: values.real(0, 1).fits(v) and float(v) < 1)
    ranked = {
        "criterion": values.choice("snr", "zero_density", "savage_dickey"),
        "scope": values.choice("global", "layer"),
        "granularity": values.choice("weight", "block", "unit"),
        "block_size": Kind("4 or 16", lambda v: values.whole(4, 16).fits(v) and int(v) in (4, 16)),
    }
    small = _classifier()
    labelled = {"x": made.x, "y": made.y}
    distilled = {"x": made.x, "answers": made.answers, "epochs": 1, "verbose": 0}
    return [
        _of_model(
            "tfbnn.prune",
            tfbnn.prune,
            made,
            {"sparsity": 0.5},
            {
                "sparsity": _unless_none(share),
                "threshold": Kind("None", lambda v: v is None),
                **ranked,
                "compact": values.boolean(),
            },
        ),
        _of_model("tfbnn.compact", tfbnn.compact, made, {}, {"fold": values.boolean()}),
        _of_model(
            "tfbnn.pruning_curve",
            tfbnn.pruning_curve,
            made,
            {**labelled, "sparsities": [0.0], "num_samples": 1, "verbose": 0},
            {
                "x": values.rows(),
                "y": values.optional(values.array()),
                "sparsities": values.listed(share, empty=False),
                "num_samples": values.whole(),
                "seed": values.whole(-(2**63), 2**63 - 1),
                "verbose": values.verbosity(),
                "sample_weight": values.optional(values.array()),
            },
            others=("ranking",),
        ),
        Entry(
            "PruningCurve.plot",
            made.curve.plot,
            dict,
            {"path": values.optional(values.path()), "title": _TITLE},
        ),
        Entry(
            "tfbnn.distill",
            tfbnn.distill,
            lambda: {"model": small, **distilled},
            {
                "model": values.thing(),
                "x": values.array(),
                "answers": values.thing(),
                "uncertainty": values.choice("moments", "none"),
                "epochs": values.whole(),
                "batch_size": values.whole(),
                "learning_rate": values.real(0, inside=True),
                "callbacks": values.listed(values.thing()),
                "verbose": values.verbosity(),
            },
            state=lambda: [array.tobytes() for array in small.get_weights()],
            slow=True,
        ),
    ]


def _exports(made: World) -> list[Entry]:
    export = tfbnn.export
    precisions = ("float32", "float16", "int8", "posterior", "full_int8")
    files = [
        _of_model(
            f"tfbnn.export.{name}",
            getattr(export, name),
            made,
            {"path": made.new("m"), "check_data": made.x},
            {
                "path": values.path(),
                "uncertainty": values.choice(*(mode.name for mode in target.modes)),
                "storage": values.choice(*target.tolerances),
                "inputs": values.optional(values.thing(export.Inputs)),
                "check_data": values.optional(values.array()),
                "class_names": values.optional(_several(values.text(), 2)),
                "overwrite": values.boolean(),
            },
            slow=True,
        )
        for name, target in export.TARGETS.items()
    ]
    function = Kind("function", lambda v: None if callable(v) else False)
    options = {
        "Moments": {"num_points": values.whole(2)},
        "MonteCarlo": {"num_samples": values.whole()},
        "Ensemble": {"num_samples": values.whole(), "seed": values.whole(0, 2**63 - 1)},
        "Mean": {},
        "Storage": {
            "precision": values.choice(*precisions),
            "sparse": values.optional(values.boolean()),
            "standard_deviations": values.choice("full", "rank_one", "unit"),
            "tolerance": values.optional(values.real(0)),
        },
        "Inputs": {
            "batch_size": values.whole(),
            "type": values.choice("float32", "uint8"),
            "preprocessing": values.optional(values.any_of(values.text(), function)),
        },
    }
    return files + [
        Entry(
            f"tfbnn.export.{name}",
            getattr(export, name),
            dict,
            kinds_of,
            ("representative_data",) if name == "Storage" else (),
        )
        for name, kinds_of in options.items()
    ]


def _search(made: World) -> list[Entry]:
    search = tfbnn.search
    hp = keras_tuner.HyperParameters
    seed = values.whole(-(2**63), 2**63 - 1)
    positive, at_least_0 = values.real(0, inside=True), values.real(0)
    share = Kind("share", lambda v: values.real(0, 1).fits(v) and float(v) < 1)
    space = {
        "estimators": Kind("estimators", lambda value: False),
        "priors": Kind("priors", lambda value: False),
        "recipes": Kind("recipes", lambda value: False),
        "initial_scale": values.choices(values.any_of(values.scale(), values.choice("fan_in"))),
        "beta": values.optional(values.choices(at_least_0)),
        "warm_up": values.optional(values.choices(values.real(0, 1))),
        "depths": values.choices(values.whole()),
        "widths": values.choices(values.whole()),
        "learning_rate": values.choices(positive),
    }
    of_tuner = {"tuner": values.thing()}
    function = Kind("function or None", lambda v: None if v is None or callable(v) else False)
    return [
        Entry(
            "tfbnn.search.Range",
            search.Range,
            lambda: {"low": 0.1, "high": 1e12, "log": False},
            {
                "low": Kind(
                    "below", lambda v: values.real(-1e37, 1e12).fits(v) and float(v) < 1e12
                ),
                "high": Kind("above", lambda v: values.real(0.1).fits(v) and float(v) > 0.1),
                "log": values.boolean(),
            },
            after=lambda made: json.dumps(dataclasses.asdict(made)),
        ),
        Entry("tfbnn.search.Space", search.Space, dict, space, after=_use_space),
        Entry(
            "tfbnn.search.MonteCarloNLL",
            search.MonteCarloNLL,
            dict,
            {"num_samples": values.whole(), "seed": seed},
            after=lambda made: json.dumps(dataclasses.asdict(made)),
        ),
        Entry(
            "tfbnn.search.Bytes",
            search.Bytes,
            lambda: {"error_budget": 0.1},
            {
                "error_budget": at_least_0,
                "sparsities": values.listed(share, empty=False),
                "measure": values.choice("bytes", "gzip_bytes"),
                "score": values.choice("error", "nll", "rmse"),
                "num_samples": values.whole(),
                "num_samples_in_file": values.whole(),
                "infeasible_bytes": positive,
                "seed": seed,
            },
            after=lambda made: json.dumps(dataclasses.asdict(made)),
        ),
        Entry(
            "tfbnn.search.BayesianHyperModel",
            search.BayesianHyperModel,
            lambda: {"input_shape": (3,), "outputs": 2},
            {
                "input_shape": values.listed(values.whole()),
                "outputs": _unless_none(values.whole()),
                "space": values.optional(values.thing()),
                "network": Kind("None", lambda value: value is None),
                "loss": values.optional(values.thing()),
                "objective": function,
                "optimizer": values.optional(function),
                "seed": values.optional(values.whole(0, 2**32 - 1)),
            },
        ),
        Entry(
            "tfbnn.search.perceptron",
            search.perceptron,
            lambda: {"outputs": 2},
            {"outputs": values.whole(), "space": values.optional(values.thing())},
        ),
        Entry(
            "tfbnn.search.choose",
            search.choose,
            lambda: {"hp": hp(), "name": "a", "values": (1, 2)},
            {
                "hp": values.thing(),
                "name": values.text(),
                "values": values.choices(values.anything()),
            },
        ),
        Entry(
            "tfbnn.search.open_tuner",
            search.open_tuner,
            lambda: {"tuner": "random", "hypermodel": made.hypermodel, "folder": made.new("s")},
            {
                "tuner": values.choice("random", "bayesian", "hyperband"),
                "hypermodel": values.thing(),
                "folder": values.path(),
            },
            ("options",),
            state=made.files,
            slow=True,
        ),
        Entry("tfbnn.search.trials", search.trials, lambda: {"tuner": made.tuner}, of_tuner),
        # The shared search has no trial yet.
        Entry("tfbnn.search.best", search.best, lambda: {"tuner": made.tuner}, of_tuner, slow=True),
        Entry(
            "tfbnn.search.plot",
            search.plot,
            lambda: {"rows": []},
            {
                "rows": values.listed(values.thing()),
                "path": values.optional(values.path()),
                "label": values.text(),
                "reference": values.optional(
                    Kind("pair", lambda v: isinstance(v, tuple) and v == ("a", 1))
                ),
            },
        ),
    ]


def _trainers() -> list[Entry]:
    return [
        Entry(f"trainers.{cls.__name__}", cls, dict, _of_fields(cls), after=_use_settings)
        for cls in (Settings, SearchSettings)
    ]


def _of_fields(cls: type) -> dict[str, Kind]:
    """What a field of settings may be, by its annotation; its range is another thing."""
    kinds = {int: values.whole(-LARGEST, 2**63), float: values.real(), bool: values.boolean()}
    kinds[str] = values.text()
    found = {}
    for name, hint in typing.get_type_hints(cls).items():
        several, optional = typing.get_origin(hint) is tuple, type(None) in typing.get_args(hint)
        kind = kinds[typing.get_args(hint)[0] if several or optional else hint]
        kind = values.listed(kind) if several else values.optional(kind) if optional else kind
        found[name] = Kind(kind.name, lambda v, kind=kind: None if kind.fits(v) else False)
    return found


def _use_settings(settings: Any) -> None:
    json.dumps(dataclasses.asdict(settings))
    settings.effective()


def _one(name: str, call: Any, argument: str, right: Any, **options: Any) -> Entry:
    """An entry of one argument that a name, an object or a configuration may be given for."""
    return Entry(name, call, lambda: {argument: right}, {argument: _NAMED}, **options)


def _of_model(
    name: str,
    call: Any,
    made: World,
    right: dict[str, Any] | None = None,
    kinds: dict[str, Kind] | None = None,
    **options: Any,
) -> Entry:
    """An entry whose first argument is the shared model, which an error must leave alone."""
    return Entry(
        name,
        call,
        lambda: {"model": made.model, **(right or {})},
        {"model": values.thing(), **(kinds or {})},
        state=made.state,
        **options,
    )


def _several(kind: Kind, count: int) -> Kind:
    """So many of them."""
    inner = values.listed(kind)
    return Kind(f"{count} x {kind.name}", lambda v: bool(inner.fits(v)) and len(v) == count)


def _unless_none(kind: Kind) -> Kind:
    return Kind(kind.name, lambda v: False if v is None else kind.fits(v))


def _divisor_of(number: int) -> Kind:
    return Kind(
        f"divisor of {number}",
        lambda v: values.whole(1, number).fits(v) and number % int(v) == 0,
    )


def _rising(value: Any) -> bool:
    if not values.listed(_PROBABILITY, empty=False).fits(value):
        return False
    return all(low < high for low, high in zip(value, value[1:], strict=False))


def _use_prior(prior: Any) -> None:
    assert tfbnn.priors.get(json.loads(json.dumps(_serialized(prior)))) == prior
    assert np.isfinite(prior.log_prob([-1.0, 0.5])).all()


def _use_family(family: Any) -> None:
    json.dumps(_serialized(family))
    if isinstance(family, tfbnn.families.Normal):
        _use_layer(tfbnn.layers.DenseFlipout(2, kernel_posterior=family), (2, 3))


def _use_layer(layer: Any, shape: tuple[int, ...]) -> None:
    config = json.loads(json.dumps(_serialized(layer)))
    again = keras.saving.deserialize_keras_object(config)
    assert json.dumps(_serialized(again)) == json.dumps(_serialized(layer))
    if getattr(again, "data_format", None) == "channels_first":
        return
    again.build((None, *shape[1:]))
    for weight in again.variational_weights:
        assert np.isfinite(weight.scale).all() and (weight.scale.numpy() > 0).all()
    assert np.isfinite(again(np.ones(shape, "float32"))).all()


def _use_loss(loss: Any) -> None:
    json.dumps(_serialized(loss))
    if loss.num_scales not in (None, 1, 2):
        return  # Of another network than this one.
    units = 4 if loss.scale == "head" else 2
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(units)])
    model.compile(loss=loss)
    _, scale = model.likelihood.parameters(np.ones((1, units), "float32"))
    assert np.isfinite(scale).all() and (scale.numpy() > 0).all()
    if loss.scale == "learned":
        np.testing.assert_allclose(scale, loss.initial_scale or 1.0, rtol=1e-5)


def _use_schedule(schedule: Any) -> None:
    if schedule is not None:
        json.dumps(_serialized(schedule))
        assert np.isfinite(float(schedule(10, 3)))


def _use_space(space: Any) -> None:
    hp = keras_tuner.HyperParameters()
    tfbnn.search.BayesianHyperModel((3,), outputs=2, space=space).build(hp)
    json.dumps(hp.get_config())


def _serialized(thing: Any) -> Any:
    return keras.saving.serialize_keras_object(thing)
