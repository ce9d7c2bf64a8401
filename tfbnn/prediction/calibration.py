"""Temperature scaling, on labelled data that the model was not trained on."""

import dataclasses
from typing import Any

import numpy as np

from tfbnn import arguments
from tfbnn.prediction.labelled import LabelledBlock, joined, labelled_blocks, with_one_output
from tfbnn.scores import temperature


def calibrate(
    model: Any,
    x: Any,
    y: Any = None,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    verbose: Any = "auto",
    sample_weight: Any = None,
    of: str = "best",
) -> temperature.Temperature:
    """Temperature scaling: soften or sharpen predictions by one number, chosen on held-out data.

    A temperature T of the draws divides the logits of each network before the mean over networks,
    one of the mean divides the logarithms of their mean probabilities `p`:

        draws:  p_T = mean(softmax(logits / T), axis=draws)
        mean:   p_T = p**(1 / T) / sum(p**(1 / T))

    and the same with two classes for yes or no. Both mend a model that is too sure. One that is
    too unsure because its draws disagree is mended by the temperature of the mean alone;
    `epistemic` and `aleatoric` are then those of the draws and do not add up to `uncertainty`.

    T minimises the `nll` of `tfbnn.evaluate`. It is kept with the model's likelihood, as
    `temperature` or `mean_temperature`: `tfbnn.predict`, `tfbnn.evaluate`, `.keras` files and
    exports use it from then on (of a plain Keras model the first two, until it is compiled again).
    Training and `model.evaluate` do not. Calling it again starts from 1.

    Warns (`UserWarning`) of a T outside of [1/3, 3], of fewer than 10 wrong answers in the held-out
    data, and of a standard error of `log(T)` above 0.2.

    Args:
        model: As in `tfbnn.predict`; it must predict classes.
        x: Inputs of data that the model was not trained on, nor will be tested on.
        y: Labels, as in `fit`.
        num_samples, batch_size, seed, verbose: As in `tfbnn.predict`.
        sample_weight: As in `tfbnn.evaluate`.
        of: `"draws"`, `"mean"`, or `"best"`: the one with the lower NLL; the draws, unless the
            difference is more than its standard error.

    Returns:
        The temperature: above 1 the model was overconfident, below 1 it was underconfident. It is a
        `float` that says `of` what it is (`"draws"` or `"mean"`), and the `standard_error` of its
        logarithm.

    Raises:
        ValueError: If the model does not predict classes, or no temperature fits.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((1,)), tfbnn.layers.DenseFlipout(1)])
    >>> model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    >>> _ = model.layers[0].kernel.loc_variable.assign([[2.0]])
    >>> x = np.repeat([[1.0], [-1.0]], 50, axis=0)
    >>> y = np.arange(100) % 50 < np.repeat([40, 10], 50)  # four in five are right
    >>> found = tfbnn.calibrate(model, x, y, seed=0)
    >>> round(found, 1), found.of, model.likelihood.temperature == found
    (1.4, 'draws', True)

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", sec. 4.2; for the mean of
        several networks Rahaman and Thiery 2021, "Uncertainty Quantification and Deep Ensembles".
    """
    arguments.one_of("of", of, ("best", *temperature.KINDS))
    posterior = with_one_output(model)
    likelihood = posterior.likelihoods[0]
    blocks = labelled_blocks(posterior, x, y, sample_weight, num_samples, batch_size, seed, verbose)
    *logits, labels, weights = joined([_held_out(block) for (block,) in blocks])
    candidates = {
        kind: temperature.examples_of(one.swapaxes(0, 1), labels, weights)
        for kind, one in zip(temperature.KINDS, logits, strict=True)
    }
    found = temperature.chosen(candidates, of)
    temperature.warn_if_doubtful(found, candidates["mean"].num_wrong())
    name = {"draws": "temperature", "mean": "mean_temperature"}[found.of]
    likelihood.take_temperatures(likelihood.at(**{name: float(found)}))
    return found


def _held_out(block: LabelledBlock) -> list[np.ndarray]:
    """Logits of the draws and of their mean at T = 1, labels and weights, `(labels, ...)` each."""
    answer = dataclasses.replace(block.answer, likelihood=block.answer.likelihood.at())
    draws = answer.likelihood.logits(answer.outputs).numpy()
    mean = answer.likelihood.mean_logits(answer.mean).numpy()[np.newaxis]
    logits = (one.reshape(len(one), *block.labels.shape, -1) for one in (draws, mean))
    # The labels first, as concatenation wants them.
    return block.those_that_count(*(np.moveaxis(one, 0, -2) for one in logits))
