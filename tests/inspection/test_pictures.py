"""The pictures: what they show, where they are saved, and what is too large for them."""

import keras
import matplotlib.image
import numpy as np
import pytest

import tfbnn

LOSS = tfbnn.losses.NormalNLL(1.0)


def dense(*units, inputs=2):
    model = tfbnn.Sequential(
        [keras.Input((inputs,)), *(tfbnn.layers.Dense(n, name=f"dense_{n}") for n in units)]
    )
    model.compile(loss=LOSS)
    return model


def convolutional():
    layers = [
        tfbnn.layers.Conv2D(3, 3, name="window"),
        keras.layers.Flatten(),
        tfbnn.layers.Dense(4, name="hidden"),
        tfbnn.layers.Dense(1, name="last"),
    ]
    model = tfbnn.Sequential([keras.Input((6, 6, 2)), *layers])
    model.compile(loss=LOSS)
    return model


def test_the_picture_has_all_layers_and_the_inside_of_each(tmp_path):
    found = tfbnn.layer_uncertainty(
        convolutional(), np.ones((2, 6, 6, 2), "float32"), 4, seed=0, verbose=0
    )
    figure = found.plot(tmp_path / "where.png", "a title")
    top, bottom = figure.subfigs
    names = [label.get_text() for label in top.axes[0].get_yticklabels()]
    assert names == ["window", "hidden", "last"]
    titles = [axes.get_title() for axes in bottom.axes if axes.get_title()]
    assert titles[0] == "window: sigma by input position" and len(titles) == 4 * 3
    # A window of 3 x 3, the 4 x 4 places in front of `Flatten`, and the 4 inputs.
    images = [axes.images[0].get_array().shape for axes in bottom.axes if axes.images]
    assert (3, 3) in images and (4, 4) in images and (4, 1) in images
    assert matplotlib.image.imread(tmp_path / "where.png").ndim == 3


@pytest.mark.parametrize("model", [convolutional, lambda: dense(5, 1)], ids=["start", "dense"])
def test_a_model_at_its_start_and_a_pruned_one_can_be_drawn(model):
    model = model()
    tfbnn.layer_uncertainty(model).plot()
    tfbnn.layer_uncertainty(tfbnn.prune(model, sparsity=0.6, scope="layer")).plot()


def test_a_network_before_and_after_pruning(tmp_path):
    model = dense(4, 1)
    figure = tfbnn.plot_network(
        model, tmp_path / "edges.png", tfbnn.prune(model, sparsity=0.5), "a title"
    )
    before, after = figure.axes
    assert [axes.get_title() for axes in (before, after)] == ["12 weights", "6 weights"]
    # A curve for each weight that is left.
    assert [len(axes.collections) for axes in (before, after)] == [12, 6]
    dotted = [line for line in after.lines if line.get_linestyle() == ":"]
    assert len(dotted) == 6
    assert matplotlib.image.imread(tmp_path / "edges.png").ndim == 3


def test_other_networks_are_shown_otherwise():
    with pytest.raises(ValueError, match="at most 120 weights.*a network of 300 weights"):
        tfbnn.plot_network(dense(100, 1))
    with pytest.raises(ValueError, match=r"Only a chain of dense layers.*kernels of shapes \[\("):
        tfbnn.plot_network(convolutional())


def test_a_path_must_be_that_of_a_picture(tmp_path):
    with pytest.raises(ValueError, match="`path` must end in the name of a format"):
        tfbnn.plot_network(dense(1), tmp_path / "edges.txt")
    with pytest.raises(ValueError, match="`path` must end in the name of a format"):
        tfbnn.layer_uncertainty(dense(1)).plot(tmp_path / "where.txt")
