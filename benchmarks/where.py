"""Where the uncertainty of networks trained on MNIST sits: tables and pictures of docs/where.md.

    python benchmarks/where.py --data <data>

`<data>` holds `notmnist/`. A perceptron and LeNet-5 are trained by variational inference, by IVON,
and by Adam with Laplace's diagonal approximation after it. For each there is the table of
`tfbnn.layer_uncertainty`, and what predictions are worth where only some layers are drawn and the
others are at their means.
"""

import argparse
import io
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import make_moons
from sklearn.metrics import roc_auc_score

import tfbnn
from benchmarks import measuring
from benchmarks.device_parts import inputs
from benchmarks.laplace import NETWORKS
from tfbnn.posterior.gaussian import gaussian
from tfbnn.posterior.routes import posterior_of
from tfbnn.scores import class_scores
from trainers.data import Dataset, load

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PICTURES = pathlib.Path(__file__).parents[1] / "docs"
BATCH, SEED, ROWS, SHARE_ROWS = 128, 0, 5000, 1000


def main() -> None:
    """Print the tables, and write the pictures."""
    settings = _settings()
    data = load("mnist", settings.data_dir, smoke=settings.smoke)
    letters = inputs.letters(settings.data)[: min(2000, len(data.test[0]))]
    logs = {}
    for name in settings.network:
        for route, train in ROUTES.items():
            # Names of layers begin anew.
            keras.utils.clear_session()
            keras.utils.set_random_seed(SEED)
            layers = [keras.Input((28, 28, 1)), *NETWORKS[name]()]
            posterior, log = train(layers, data, settings.epochs)
            if log is not None:
                logs[name] = log
            _show(f"{name}, {route}", posterior, data, letters, settings)
            if route == "variational":
                _draw(name, posterior, data, settings)
    _print_training(logs)
    _draw_training(logs, settings.pictures / "where_training.png")
    _draw_edges(settings.pictures / "where_edges.png")


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--num-samples", type=int, default=32)
    parser.add_argument("--pictures", type=pathlib.Path, default=PICTURES)
    parser.add_argument("--smoke", action="store_true", help="on a few rows: learns nothing")
    parser.add_argument("--data", help="folder that holds notmnist/; else TFBNN_DATA")
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets; else TFDS_DATA_DIR")
    return parser.parse_args()


def variational(layers: list[Any], data: Dataset, epochs: int) -> tuple[Any, Any]:
    """Random layers of the same kinds, by the default recipe; what was logged, too."""
    model = tfbnn.to_bayesian(keras.Sequential(layers), fresh=True, verbose=0)
    model.compile(loss=LOSS, recipe="calibrated")
    with tempfile.TemporaryDirectory() as folder:
        log = tfbnn.callbacks.SigmaLogger(folder, tensorboard=False, csv=False, picture=False)
        model.fit(*data.train, BATCH, epochs, callbacks=[log], verbose=2)
    return model, log


def ivon(layers: list[Any], data: Dataset, epochs: int) -> tuple[Any, None]:
    """Plain layers under the optimizer that learns a law."""
    model = tfbnn.Sequential(layers)
    model.compile(tfbnn.optimizers.IVON(0.1, seed=SEED), loss=LOSS)
    model.fit(*data.train, BATCH, epochs, verbose=2)
    return model, None


def laplace(layers: list[Any], data: Dataset, epochs: int) -> tuple[Any, None]:
    """Plain layers by Adam, and the diagonal of the curvature."""
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(1e-3), loss=LOSS)
    model.fit(*data.train, BATCH, epochs, verbose=2)
    options = {"structure": "diagonal", "predictive": "sampled", "verbose": 0}
    return tfbnn.posteriors.Laplace(model, *data.train, **options), None


ROUTES: dict[str, Callable[..., tuple[Any, Any]]] = {
    "variational": variational,
    "ivon": ivon,
    "laplace": laplace,
}


def _show(title: str, posterior: Any, data: Dataset, letters: Any, settings: Any) -> None:
    found = _layers(posterior, data, settings)
    print(f"\n{title}\n\n{found}", flush=True)
    print(f"unidentified: {found.unidentified or 'none'}\n")
    header = ["within a layer, 5 to 95 %", "sigma by unit", "by input", "dB by unit", "by input"]
    print(measuring.table(header, [_within(layer) for layer in found]) + "\n")
    names = [layer.name for layer in found]
    drawn = {"all layers": names, "the last layer": names[-1:], "all but the last": names[:-1]}
    rows = []
    for words, layers in {**drawn, "none": []}.items():
        # What is not drawn at all is one network.
        number = settings.num_samples if layers else 1
        rows.append([words, *_scores(partly_drawn(posterior, layers), data, letters, number)])
    header = ["drawn", "error", "NLL", "ECE", "letters by entropy", "by information"]
    print(measuring.table(header, rows), flush=True)


def _within(layer: Any) -> list[str]:
    """How far apart units, and input positions, of a layer are."""
    numbers = (layer.sigma_by_unit, layer.sigma_by_input)
    ratios = (layer.snr_db_by_unit, layer.snr_db_by_input)
    ends = [np.quantile(one, (0.05, 0.95)) for one in (*numbers, *ratios)]
    texts = [f"{low:.3g} to {high:.3g}" for low, high in ends[:2]]
    return [layer.name, *texts, *(f"{low:.1f} to {high:.1f}" for low, high in ends[2:])]


def _layers(posterior: Any, data: Dataset, settings: Any) -> Any:
    images = data.test[0][:SHARE_ROWS]
    return tfbnn.layer_uncertainty(posterior, images, settings.num_samples, seed=SEED, verbose=0)


def partly_drawn(posterior: Any, layers: list[str]) -> tfbnn.posteriors.GaussianPosterior:
    """The posterior with the other layers at their means."""
    found = gaussian(posterior_of(posterior), "A part of it")
    drawn = [
        weight
        for layer in tfbnn.layers.variational_layers(found.model)
        if layer.name in layers
        for weight in layer.variational_weights
    ]
    laws = {w: (law.loc, law.scale * (w in drawn)) for w, law in found.laws().items()}
    return tfbnn.posteriors.GaussianPosterior(found.model, found.likelihoods, laws)


def _scores(posterior: Any, data: Dataset, letters: Any, num_samples: int) -> list[str]:
    """Scores on test digits, and areas under the ROC curve of telling letters from them."""
    (digits, labels), options = (part[:ROWS] for part in data.test), {"seed": SEED, "verbose": 0}
    answers = [
        tfbnn.predict(posterior, x, num_samples, keep_samples=False, **options)
        for x in (digits, letters)
    ]
    strange = np.repeat([0, 1], [len(digits), len(letters)])
    areas = (
        roc_auc_score(strange, np.concatenate([getattr(answer, name) for answer in answers]))
        for name in ("uncertainty", "mutual_information")
    )
    probabilities = answers[0].prediction
    return [
        f"{100 * class_scores.error(probabilities, labels):.2f} %",
        f"{class_scores.negative_log_likelihood(probabilities, labels):.4f}",
        f"{100 * class_scores.expected_calibration_error(probabilities, labels):.2f} %",
        *(f"{area:.3f}" for area in areas),
    ]


def _draw(name: str, posterior: Any, data: Dataset, settings: Any) -> None:
    found = _layers(posterior, data, settings)
    title = f"{name}, MNIST, variational, {settings.epochs} epochs"
    _save(found.plot(title=title), settings.pictures / f"where_{name}.png")


def _draw_edges(path: pathlib.Path) -> None:
    """A network of two moons, edge by edge, before and after pruning."""
    keras.utils.set_random_seed(SEED)
    x, y = make_moons(400, noise=0.2, random_state=SEED)
    x = x.astype("float32")
    layers = [tfbnn.layers.Dense(4, "tanh"), tfbnn.layers.Dense(4, "tanh"), tfbnn.layers.Dense(1)]
    model = tfbnn.Sequential([keras.Input((2,)), *layers])
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True), recipe="calibrated")
    model.fit(x, y, epochs=200, verbose=0)
    pruned = tfbnn.prune(model, sparsity=0.25)
    errors = [
        100 * tfbnn.evaluate(one, x, y, seed=SEED, verbose=0).error for one in (model, pruned)
    ]
    print("\ntwo moons, training error: {:.1f} %, pruned {:.1f} %".format(*errors))
    _save(tfbnn.plot_network(model, after=pruned), path)


def _save(figure: Figure, path: pathlib.Path) -> None:
    """Write a picture of few colours, which is all that there are."""
    buffer = io.BytesIO()
    figure.savefig(buffer)
    buffer.seek(0)
    Image.open(buffer).convert("RGB").quantize(192).save(path, optimize=True)


def _print_training(logs: dict[str, Any]) -> None:
    """Median sigma, signal-to-noise and correlation at the start, on the way, and at the end."""
    rows = []
    for name, log in logs.items():
        epochs = sorted({0, 1, 3, len(log.records) // 2, len(log.records) - 1})
        for weight in _kernels(log):
            for epoch in (one for one in epochs if one < len(log.records)):
                found = log.records[epoch][1][weight]
                row = [name, weight, epoch, f"{found['sigma_q5']:.4f}", f"{found['sigma_q50']:.4f}"]
                row += [f"{found['sigma_q95']:.4f}", f"{found['snr_db_q50']:.1f}"]
                rows.append([*row, f"{found['correlation']:.2f}", f"{found['kl']:,.0f}"])
    header = ["network", "weights", "epoch", "sigma 5 %", "50 %", "95 %", "snr (dB)"]
    print("\n" + measuring.table([*header, "|mu|~sigma", "KL"], rows))


def _kernels(log: Any) -> list[str]:
    return [name for name in log.records[0][1] if name.endswith("kernel")]


def _draw_training(logs: dict[str, Any], path: pathlib.Path) -> None:
    figure = Figure(figsize=(11, 3.2 * len(logs)), dpi=100, layout="constrained")
    rows = figure.subplots(len(logs), 2, squeeze=False, sharex=True)
    for (name, log), (left, right) in zip(logs.items(), rows, strict=True):
        for weight in _kernels(log):
            found = [statistics[weight] for _, statistics in log.records]
            start = found[0]["sigma_q50"]
            left.plot([one["sigma_q50"] / start for one in found], label=weight)
            right.plot([one["snr_db_q50"] for one in found], label=weight)
        left.set_title(f"{name}: median sigma, over that of the start")
        right.set_title("median of |mu| / sigma, dB")
        right.legend(fontsize=8, frameon=False)
    for axes in rows[-1]:
        axes.set_xlabel("epoch")
    _save(figure, path)


if __name__ == "__main__":
    main()
