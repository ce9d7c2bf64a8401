"""The networks that are measured, as data: every contender builds the same one from it."""

import dataclasses

EXAMPLES = 60_000
CLASSES = 10

# The part of a layer's class name that says which estimator it has, in tfbnn as in `tfp.layers`.
SUFFIXES = {
    "reparameterization": "Reparameterization",
    "local": "LocalReparameterization",
    "flipout": "Flipout",
}


@dataclasses.dataclass(frozen=True)
class Dense:
    """A dense layer."""

    inputs: int
    units: int
    last: bool = False

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        return (self.inputs, self.units)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution with "same" padding and a max pooling of 2 after it."""

    size: int
    channels: int
    filters: int
    kernel: int = 5

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        return (self.kernel, self.kernel, self.channels, self.filters)


def layers(network: str, width: int) -> list[Dense | Convolution]:
    """The layers of `"mlp"` (784-width-width-10) or `"lenet"`."""
    if network == "mlp":
        return [Dense(784, width), Dense(width, width), Dense(width, CLASSES, last=True)]
    if network == "lenet":
        convolutions = [Convolution(28, 1, 32), Convolution(14, 32, 64)]
        return [*convolutions, Dense(7 * 7 * 64, 500), Dense(500, CLASSES, last=True)]
    raise ValueError(f"The networks are 'mlp' and 'lenet'. Received: network={network!r}")


def input_shape(network: str) -> tuple[int, ...]:
    """Shape of one example."""
    return (784,) if network == "mlp" else (28, 28, 1)
