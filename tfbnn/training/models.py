"""Models: `keras.Sequential` and `keras.Model` whose `fit` maximises an ELBO, or tempers it."""

import inspect
from typing import Any

import keras

from tfbnn import arguments
from tfbnn.layers.keras_internals import KerasFunctional
from tfbnn.training import keras_files
from tfbnn.training.bayesian_model import BayesianModel
from tfbnn.training.copies import compile_like, rebuilt

# Files of models name it.
from tfbnn.training.ivon import IVON as IVON


@keras.saving.register_keras_serializable("tfbnn")
class Sequential(BayesianModel, keras.Sequential):
    """A `keras.Sequential` trained on the ELBO, or a tempered one. See `BayesianModel`.

    Args:
        layers: As in Keras.
        num_examples: Number of training examples; found by `fit` where it can be.
        **kwargs: As in Keras.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("adam", loss=loss, metrics=["accuracy"])
    >>> history = model.fit(np.eye(3), np.array([0, 1, 1]), verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'kl', 'kl_weight', 'loss', 'nll', 'weighted_kl']
    """

    def __init__(self, layers: Any = None, *, num_examples: int | None = None, **kwargs: Any):
        super().__init__(layers, num_examples=num_examples, **kwargs)


@keras.saving.register_keras_serializable("tfbnn")
class Model(BayesianModel, keras.Model):
    """A functional or subclassed `keras.Model` trained on the ELBO, or a tempered one.

    See `BayesianModel`.

    Args:
        *args: As in Keras: `inputs, outputs` for a functional model.
        num_examples: Number of training examples; found by `fit` where it can be.
        **kwargs: As in Keras.

    Example:

    >>> import keras, tfbnn
    >>> inputs = keras.Input((3,))
    >>> model = tfbnn.Model(inputs, tfbnn.layers.DenseFlipout(2)(inputs))
    >>> isinstance(model, tfbnn.Model)
    True
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and _is_functional(args, kwargs):
            cls = Functional
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any):
        if _is_functional(args, kwargs) and not isinstance(self, Functional):
            _make_functional(type(self))
        super().__init__(*args, **kwargs)


@keras.saving.register_keras_serializable("tfbnn")
class Functional(Model, KerasFunctional):
    """What `tfbnn.Model(inputs, outputs)` makes."""

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        super().__init__(inputs, outputs, name=name, **kwargs)


def clone_model(model: Any) -> Any:
    """A new model of the same class, configuration and objective, with fresh weights.

    `keras.models.clone_model` turns a `tfbnn.Sequential` into a plain `keras.Sequential`.

    Args:
        model: A `tfbnn.Sequential` or `tfbnn.Model`; a subclass needs `get_config`.

    Returns:
        The new model, compiled like `model` (with a new optimizer) if that was compiled.

    Example:

    >>> import keras, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> type(tfbnn.clone_model(model)).__name__
    'Sequential'
    """
    arguments.instance("model", model, BayesianModel, "a `tfbnn.Sequential` or `tfbnn.Model`")
    clone = rebuilt(model)
    compile_like(model, clone)
    return clone


def load_model(path: Any, **kwargs: Any) -> Any:
    """`keras.models.load_model`, with every layer, prior and loss of tfbnn known.

    Args:
        path: A `.keras` file.
        **kwargs: As in Keras: `custom_objects`, `compile`, `safe_mode`.

    Returns:
        The model.

    Raises:
        ValueError: If the file is damaged; it is named. Errors about classes that Keras does not
            know, code in the file and a missing file are Keras' own.

    Example:

    >>> import keras, tempfile, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.save(tempfile.gettempdir() + "/model.keras")
    >>> type(tfbnn.load_model(tempfile.gettempdir() + "/model.keras")).__name__
    'Sequential'
    """
    path = arguments.path("path", path)
    # An argument that Keras does not have is no damage.
    inspect.signature(keras.models.load_model).bind(path, **kwargs)
    if not keras_files.is_keras_file(path):
        return keras.models.load_model(path, **kwargs)
    config = keras_files.whole_configuration(path)
    try:
        return keras.models.load_model(path, **kwargs)
    except (MemoryError, Warning):
        raise
    except Exception as error:
        in_words = isinstance(error, TypeError | ValueError)
        if in_words and keras_files.asks_for_code(config, kwargs.get("custom_objects")):
            error.add_note(f"The model is in {path}.")
            raise
        raise keras_files.damaged(path, error) from error


def _is_functional(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return len(args) == 2 or "outputs" in kwargs


def _make_functional(cls: type) -> type:
    """Put `Functional` in the place of `Model` among the bases of a user's class.

    Keras does so with its own classes, and would write its functional class into the bases of
    `Model` itself, which breaks every other subclass.
    """
    if cls is Model:
        return Functional
    if issubclass(cls, Model):
        cls.__bases__ = tuple(map(_make_functional, cls.__bases__))
    return cls
