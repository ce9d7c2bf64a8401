"""Networks of the trainers: from settings to a model, and its training."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tqdm

import tfbnn
from tfbnn.training import strategies
from trainers.data import Dataset, Part
from trainers.settings import Settings

_SIGMA_RECORDS = 100


def build(settings: Settings, dataset: Dataset) -> tfbnn.Sequential:
    """A network of random weights.

    Without `filters`, the multi-layer perceptron of Blundell et al. 2015, sec. 5.1. With them, two
    3 x 3 convolutions, each followed by max pooling, in front of it.
    """
    dense = getattr(tfbnn.layers, f"Dense{settings.layer}")
    convolution = getattr(tfbnn.layers, f"Convolution2D{settings.layer}")
    options = {
        "kernel_prior": _prior(settings),
        "kernel_posterior": tfbnn.families.Normal(settings.initial_scale or "fan_in"),
    }
    layers = stack(
        functools.partial(dense, **options),
        functools.partial(convolution, **options),
        settings.filters,
        [settings.width] * settings.depth,
        len(dataset.class_names),
    )
    return tfbnn.Sequential(
        [keras.Input(dataset.train[0].shape[1:]), *layers], name=settings.dataset
    )


def _prior(settings: Settings) -> Any:
    if settings.prior == "scale_mixture":
        return tfbnn.priors.ScaleMixture(settings.pi, settings.sigma1, settings.sigma2)
    if settings.prior == "automatic_relevance":
        return tfbnn.priors.AutomaticRelevance(largest_scale=settings.largest_scale or "fan_in")
    return settings.prior


def stack(
    dense: Callable, convolution: Callable, filters: int, widths: list[int], outputs: int
) -> list[keras.Layer]:
    """The layers of `build`.

    Args:
        dense: Makes a dense layer from its units.
        convolution: Makes a convolution from its filters and the size of its window.
        filters: Of the first of two convolutions; 0 for none.
        widths: Units of each hidden layer.
        outputs: Number of outputs.
    """
    in_front = []
    for number in (filters, 2 * filters) if filters else ():
        in_front.append(convolution(number, 3, padding="same", activation="relu"))
        in_front.append(keras.layers.MaxPooling2D())
    hidden = [dense(width, activation="relu") for width in widths]
    return [*in_front, keras.layers.Flatten(), *hidden, dense(outputs)]


def train(
    model: tfbnn.Sequential,
    part: Part,
    settings: Settings,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, float]:
    """Fit with Adam, as the recipe says.

    Returns:
        The metrics of the last epoch.
    """
    recipe = tfbnn.recipes.get(settings.recipe)
    if settings.learning_rate is not None:
        recipe = dataclasses.replace(recipe, learning_rate=settings.learning_rate)
    with model.distribute_strategy.scope():
        model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            recipe=recipe,
            beta=settings.beta,
        )
    history = model.fit(
        *part,
        batch_size=settings.batch_size,
        epochs=epochs,
        verbose=0,
        # One bar, however many workers.
        callbacks=[
            *callbacks,
            *([_EpochBar()] if strategies.is_chief(model.distribute_strategy) else []),
        ],
    )
    return {name: values[-1] for name, values in history.history.items()}


def sigma_logger(
    folder: pathlib.Path, settings: Settings, rows: int
) -> tfbnn.callbacks.SigmaLogger:
    """Watches sigma, some hundred times in the whole training."""
    steps = settings.epochs * math.ceil(rows / settings.batch_size)
    return tfbnn.callbacks.SigmaLogger(folder, every=max(1, steps // _SIGMA_RECORDS))


def describe(model: tfbnn.Sequential, settings: Settings, rows: int) -> str:
    """In one line, what is trained and how."""
    sizes = "-".join(_size(layer) for layer in tfbnn.layers.variational_layers(model))
    steps = math.ceil(rows / settings.batch_size)
    beta = tfbnn.recipes.get(settings.recipe).beta if settings.beta is None else settings.beta
    objective = "ELBO" if beta == 1 else f"NOT the ELBO: KL times {beta:g}"
    return (
        f"{math.prod(model.input_shape[1:])}-{sizes} {settings.layer}, {objective}, "
        f"{rows:,} examples, {settings.epochs} epochs of {steps} batches"
    )


def _size(layer: tfbnn.layers.AbstractVariationalLayer) -> str:
    """`400` for a dense layer, `16C3` for a convolution with 16 filters of 3 x 3."""
    *window, _, outputs = layer.kernel.shape
    return f"{outputs}C{window[0]}" if window else str(outputs)


class _EpochBar(keras.callbacks.Callback):
    """One progress bar for the whole training, with the two terms of the loss in nats."""

    def on_train_begin(self, logs: Any = None) -> None:
        self._bar = tqdm.tqdm(total=self.params["epochs"], unit="epoch", mininterval=1.0)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        terms = {"nll": logs["nll"], "kl/N": logs["weighted_kl"]}
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in terms.items()}, refresh=False)
        self._bar.update()

    def on_train_end(self, logs: Any = None) -> None:
        self._bar.close()
