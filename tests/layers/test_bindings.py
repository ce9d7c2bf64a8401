"""The estimator of a layer: an argument, or part of the name of its class."""

import keras
import pytest

import tfbnn
from tests.linear_maps import ESTIMATORS

PARENTS = {"Dense": "Dense", **{f"Convolution{rank}D": f"Conv{rank}D" for rank in (1, 2, 3)}}
SUFFIXES = ("Reparameterization", "LocalReparameterization", "Flipout")
NAMES = [
    (beginning, suffix, estimator)
    for beginning in PARENTS
    for suffix, estimator in zip(SUFFIXES, ESTIMATORS, strict=True)
]


def test_the_table_holds_every_estimator():
    assert ESTIMATORS == ("reparameterization", "local_reparameterization", "flipout")
    assert tfbnn.layers.Dense(2).estimator == "flipout"


@pytest.mark.parametrize("beginning, suffix, estimator", NAMES)
def test_a_binding_is_its_parent_with_an_estimator(beginning, suffix, estimator):
    cls = getattr(tfbnn.layers, beginning + suffix)
    parent = getattr(tfbnn.layers, PARENTS[beginning])
    assert issubclass(cls, parent) and cls.__name__ == beginning + suffix
    assert f'`{parent.__name__}` with `estimator="{estimator}"`' in cls.__doc__
    sizes = {"units": 2} if beginning == "Dense" else {"filters": 2, "kernel_size": 2}
    layer = cls(**sizes, name="it")
    assert layer.estimator == estimator
    chosen = parent(**sizes, name="it", estimator=estimator).get_config()
    assert chosen == {**layer.get_config(), "estimator": estimator}
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is cls and again.get_config() == layer.get_config()
    other = ESTIMATORS[ESTIMATORS.index(estimator) - 1]
    with pytest.raises(TypeError, match=f"`{parent.__name__}` can be chosen. Received: estimator="):
        cls(**sizes, estimator=other)


@pytest.mark.parametrize("name", ["Flipout", "flip_out", "", 3])
def test_an_estimator_that_there_is_not(name):
    with pytest.raises(ValueError, match="`estimator` must be .*Received: estimator="):
        tfbnn.layers.Dense(2, estimator=name)


@pytest.mark.parametrize("former", ["prior", "posterior"])
def test_a_former_name_is_told_and_read(former):
    named = f"`{former}` is called `kernel_{former}`. Received: {former}='normal'"
    with pytest.raises(TypeError, match=named):
        tfbnn.layers.Dense(2, **{former: "normal"})
    layer = tfbnn.layers.DenseFlipout(2, **{f"kernel_{former}": "normal"})
    config = layer.get_config()
    written = {former if name == f"kernel_{former}" else name: v for name, v in config.items()}
    assert type(layer).from_config(written).get_config() == config
