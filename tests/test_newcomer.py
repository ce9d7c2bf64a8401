"""The README's first lines beside the same network without distributions, at unseen inputs."""

import pathlib
import re

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import tfbnn
from tfbnn.scores import class_uncertainty

README = pathlib.Path(__file__).parents[1] / "README.md"
SEEDS = tuple(range(6))
PLAIN = {
    "tfbnn.layers.Conv2D": "keras.layers.Conv2D",
    "tfbnn.layers.Dense": "keras.layers.Dense",
    "tfbnn.Sequential": "keras.Sequential",
    # The same optimizer: 40 epochs of 47 batches.
    ', recipe="calibrated"': ", optimizer=keras.optimizers.Adam("
    "keras.optimizers.schedules.CosineDecay(1e-2, 1880))",
}


def training_lines():
    """The README's example up to `fit`, without its log."""
    block = re.search(r"```python\n(.*?)\n\nprediction", README.read_text(), re.DOTALL)[1]
    return re.sub(r", callbacks=\[.*?\]\)\n?", ")", block)


def trained(lines, seed):
    keras.utils.set_random_seed(seed)
    names = {}
    exec(lines.replace("epochs=40", "epochs=40, verbose=0"), names)
    return names


def plain_lines(lines):
    for bayesian, plain in PLAIN.items():
        assert bayesian in lines
        lines = lines.replace(bayesian, plain)
    return lines


def unseen(images):
    """Images that are no digits: pixels in another order, the same for all."""
    order = np.random.default_rng(0).permutation(64)
    return images.reshape(-1, 64)[:, order].reshape(images.shape)


def area(known, other):
    """Under the ROC curve of predictive entropy, from probabilities `(networks, rows, classes)`."""
    scores = [class_uncertainty.predictive_entropy(one) for one in (known, other)]
    labels = np.repeat([0, 1], [len(one) for one in scores])
    return roc_auc_score(labels, np.concatenate(scores))


def probabilities(model, x):
    if isinstance(model, tfbnn.Sequential):
        return tfbnn.predict(model, x, 32, seed=0, keep_samples=True, verbose=0).samples[0]
    return keras.ops.convert_to_numpy(keras.ops.softmax(model(x, training=False)))[np.newaxis]


def test_the_first_lines_of_the_readme_beat_the_plain_network_at_unseen_inputs():
    lines = training_lines()
    gains = []
    for seed in SEEDS:
        areas = []
        for text in (lines, plain_lines(lines)):
            names = trained(text, seed)
            model, x = names["model"], names["x"]
            areas.append(area(probabilities(model, x), probabilities(model, unseen(x))))
        gains.append(areas[0] - areas[1])
    print(f"gains in area: {gains}")
    error = np.std(gains, ddof=1) / np.sqrt(len(gains))
    # The 90 % point of Student's t with 5 degrees of freedom.
    assert np.mean(gains) > 1.476 * error
