"""Random models: inputs, a body of blocks, outputs with their losses; as any class of model."""

import dataclasses
from typing import Any

import keras
import numpy as np

import tfbnn
from tests.fuzz import blocks
from tests.fuzz.answers import Output
from tfbnn.training.saved_state import restore

_LAYERS = keras.layers
MASK_VALUE = -9.0
POLICIES = (*("float32",) * 7, "mixed_float16", "mixed_bfloat16", "float64")
STYLES = ("sequential", "sequential", "functional", "functional", "subclassed")


@keras.saving.register_keras_serializable("tests.fuzz")
class Subclassed(tfbnn.Model):
    """A model with a `call` of its own: a chain of layers."""

    def __init__(self, chain: list[Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.chain = chain

    def call(self, x: Any, training: bool | None = None) -> Any:
        for layer in self.chain:
            noisy = {"training": training} if layer._call_has_training_arg else {}
            x = layer(x, **noisy)
        return x

    def get_config(self) -> dict[str, Any]:
        chain = [keras.saving.serialize_keras_object(layer) for layer in self.chain]
        return {**super().get_config(), "chain": chain}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        config = dict(config)
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config["chain"]]
        state = config.pop("bayesian", None)
        model = cls(layers, name=config["name"])
        if state is not None:
            restore(model, state)
        return model


@dataclasses.dataclass
class Network:
    """A model that is not compiled, and what it is for.

    Attributes:
        model: The model.
        outputs: One for each output.
        x: Inputs: an array, or a list.
        targets: One array for each output, in the shape that `compile`'s loss takes.
        masks: For each output the steps that count, `(rows, steps)`, or None.
        style: How the model is built.
        policy: Of Keras' types of numbers.
    """

    model: Any
    outputs: list[Output]
    x: Any
    targets: list[np.ndarray]
    masks: list[np.ndarray | None]
    style: str
    policy: str

    @property
    def rows(self) -> int:
        return len(self.targets[0])

    def losses(self) -> list[Any]:
        return [_loss(output) for output in self.outputs]


def random_network(random: np.random.Generator) -> Network:
    """A network of a random kind, with data."""
    policy = str(random.choice(POLICIES))
    keras.config.set_dtype_policy(policy)
    style = str(random.choice(STYLES))
    rows = int(random.integers(5, 24))
    if style == "functional":
        return _functional(random, rows, policy)
    entry, x, mask = _input(random, rows)
    chain: list[Any] = []
    output, kept = _chain(random, entry, chain, mask is not None)
    model = keras.Model(entry, _through(chain, entry))
    shape = _answer_shape([entry], [x], model.output)[1:-1]
    # Made anew from their configurations, as a user makes layers: not built yet.
    fresh = [type(layer).from_config(layer.get_config()) for layer in chain]
    if style == "subclassed":
        new = Subclassed(fresh)
        new(x[:2])
    else:
        shape_in = tuple(entry.shape[1:])
        new = tfbnn.Sequential([keras.Input(shape_in, dtype=entry.dtype), *fresh])
    targets = output.targets(random, (rows, *shape))
    return Network(new, [output], x, [targets], [mask if kept else None], style, policy)


def _functional(random: np.random.Generator, rows: int, policy: str) -> Network:
    several = random.random() < 0.2
    inputs, x, tensors = [], [], []
    for _ in range(2 if several else 1):
        if random.random() < 0.1:
            # Words, as whole numbers.
            entry = keras.Input((4,), dtype="int32")
            data, tensor = random.integers(0, 7, (rows, 4)), _LAYERS.Embedding(7, 3)(entry)
        else:
            entry, data, _ = _input(random, rows, may_mask=False)
            tensor = entry
        inputs.append(entry)
        x.append(data)
        tensors.append(_body(random, tensor))
    if several:
        vectors = [_as_vector(random, tensor) for tensor in tensors]
        tensor = _LAYERS.Concatenate()(vectors)
    else:
        tensor = tensors[0]
    outputs, ends, targets = [], [], []
    for number in range(2 if random.random() < 0.15 else 1):
        chain: list[Any] = []
        outputs.append(_head(random, tensor, chain, final=f"out{number}"))
        end = _through(chain, tensor)
        ends.append(end)
        shape = _answer_shape(inputs, x, end)
        targets.append(outputs[-1].targets(random, (rows, *shape[1:-1])))
    model = tfbnn.Model(inputs if several else inputs[0], ends if len(ends) > 1 else ends[0])
    given = x if several else x[0]
    return Network(model, outputs, given, targets, [None] * len(ends), "functional", policy)


def _body(random: np.random.Generator, tensor: Any) -> Any:
    """A few blocks, some of them in parallel, shared or in a model of their own."""
    for _ in range(random.integers(1, 4)):
        choice = random.random()
        layers = blocks.block(random, tensor)
        if choice < 0.2:
            other = _through(blocks.block(random, tensor), tensor)
            tensor = _merged(random, _through(layers, tensor), other)
        elif choice < 0.3:
            units = tensor.shape[-1]
            shared = blocks.variational(random, "Dense", units, activation="tanh")
            tensor = _LAYERS.Add()([shared(tensor), shared(_LAYERS.ReLU()(tensor))])
        elif choice < 0.4:
            cls = (keras.Sequential, tfbnn.Sequential)[random.integers(2)]
            tensor = cls([keras.Input(tuple(tensor.shape[1:])), *layers])(tensor)
        else:
            tensor = _through(layers, tensor)
    return tensor


def _merged(random: np.random.Generator, one: Any, other: Any) -> Any:
    # Two numbers of steps that are not known may differ.
    if one.shape == other.shape and None not in one.shape[1:]:
        names = ("Add", "Average", "Maximum", "Multiply", "Subtract", "Concatenate")
        return getattr(_LAYERS, str(random.choice(names)))()([one, other])
    return _LAYERS.Concatenate()([_as_vector(random, one), _as_vector(random, other)])


def _chain(
    random: np.random.Generator, tensor: Any, chain: list[Any], masked: bool
) -> tuple[Output, bool]:
    """Append the layers of a network without branches; whether steps are kept to the end."""
    if masked:
        return _masked_chain(random, tensor, chain)
    for _ in range(random.integers(0, 4)):
        layers = blocks.block(random, tensor)
        chain += layers
        tensor = _through(layers, tensor)
    return _head(random, tensor, chain), False


def _masked_chain(
    random: np.random.Generator, tensor: Any, chain: list[Any]
) -> tuple[Output, bool]:
    chain.append(_LAYERS.Masking(MASK_VALUE))
    for _ in range(random.integers(0, 3)):
        layer = (
            blocks.variational(random, "Dense", int(random.integers(1, 6)), activation="relu"),
            _LAYERS.LayerNormalization(),
            _LAYERS.Dropout(0.2, seed=1),
            _LAYERS.ReLU(),
        )[random.integers(4)]
        chain.append(layer)
    if kept := random.random() < 0.7:
        output = _output(random)
    else:
        chain.append(_LAYERS.GlobalAveragePooling1D())
        output = _output(random)
    # With a mask of steps, the `Softmax` layer of Keras masks classes.
    chain += [
        _LAYERS.Activation("softmax", dtype=layer.dtype_policy)
        if isinstance(layer, _LAYERS.Softmax)
        else layer
        for layer in _output_layers(random, output)
    ]
    return output, kept


def _head(random: np.random.Generator, tensor: Any, chain: list[Any], final: str = "") -> Output:
    """Append what ends a network; the output."""
    axes = len(tensor.shape) - 1
    if axes > 1 and (axes > 3 or random.random() < 0.75):
        layers = _flat(random, tensor)
        chain += layers
    output = _output(random)
    chain += _output_layers(random, output, final)
    return output


def _flat(random: np.random.Generator, tensor: Any) -> list[Any]:
    rank = len(tensor.shape) - 2
    if None in tensor.shape[1:] or random.random() < 0.4:
        kind = str(random.choice(["Average", "Max"]))
        return [getattr(_LAYERS, f"Global{kind}Pooling{rank}D")()]
    return [_LAYERS.Flatten()]


def _as_vector(random: np.random.Generator, tensor: Any) -> Any:
    return tensor if len(tensor.shape) == 2 else _through(_flat(random, tensor), tensor)


def _output(random: np.random.Generator) -> Output:
    kinds = ["sparse", "sparse", "one_hot", "binary", "fixed", "learned", "head", "count"]
    kind = str(random.choice(kinds))
    if kind in ("sparse", "one_hot"):
        return Output(kind, int(random.integers(2, 6)), bool(random.random() < 0.7))
    size = int(random.integers(1, 4))
    if kind == "binary":
        return Output(kind, size, bool(random.random() < 0.7))
    return Output(kind, size, scale=float(np.float32(random.uniform(0.3, 2))))


def _output_layers(random: np.random.Generator, output: Output, name: str = "") -> list[Any]:
    squash = None
    if not output.from_logits:
        squash = "softmax" if output.is_categorical else "sigmoid"
    options: dict[str, Any] = {"dtype": "float32"} if random.random() < 0.3 else {}
    named = {"name": name} if name else {}
    if squash and random.random() < 0.4:
        last = _LAYERS.Softmax if squash == "softmax" else _LAYERS.Activation
        last = last(**named, **options) if squash == "softmax" else last(squash, **named, **options)
        return [blocks.variational(random, "Dense", output.units, **options), last]
    return [
        blocks.variational(random, "Dense", output.units, activation=squash, **named, **options)
    ]


def _loss(output: Output) -> Any:
    if output.kind == "count":
        return tfbnn.losses.PoissonNLL()
    if output.is_real:
        scale = output.scale if output.kind == "fixed" else output.kind
        return tfbnn.losses.NormalNLL(scale, initial_scale=0.7 if output.size % 2 else None)
    names = {"sparse": "SparseCategorical", "one_hot": "Categorical", "binary": "Binary"}
    loss = getattr(keras.losses, f"{names[output.kind]}Crossentropy")
    return loss(from_logits=output.from_logits)


def _input(
    random: np.random.Generator, rows: int, may_mask: bool = True
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """An input, its data, and the steps that a `Masking` layer leaves, if there is to be one."""

    def whole(low: int, high: int) -> int:
        return int(random.integers(low, high))

    shapes = {
        "vector": lambda: (whole(1, 9),),
        "sequence": lambda: (whole(3, 8), whole(1, 4)),
        "image": lambda: (whole(4, 8), whole(4, 8), whole(1, 3)),
        "volume": lambda: (3, whole(3, 5), 4, whole(1, 3)),
    }
    kind = str(random.choice(list(shapes), p=[0.4, 0.28, 0.22, 0.1]))
    shape = shapes[kind]()
    x = random.normal(size=(rows, *shape)).astype(np.float32)
    choice = random.random()
    if kind == "sequence" and may_mask and choice < 0.4:
        lengths = random.integers(1, shape[0] + 1, rows)
        mask = np.arange(shape[0]) < lengths[:, np.newaxis]
        x[~mask] = MASK_VALUE
        return keras.Input(shape), x, mask
    if kind == "sequence" and choice < 0.6:
        # Its length is not known when the model is made.
        return keras.Input((None, shape[1])), x, None
    return keras.Input(shape), x.astype(np.float64) if choice > 0.9 else x, None


def _answer_shape(inputs: list[Any], x: list[np.ndarray], output: Any) -> tuple[int, ...]:
    """With the number of steps, which the graph may not know."""
    first = [data[:1] for data in x]
    return tuple(keras.Model(inputs, output)(first if len(first) > 1 else first[0]).shape)


def _through(layers: list[Any], tensor: Any) -> Any:
    for layer in layers:
        tensor = layer(tensor)
    return tensor
