"""Coverage: what of a model became random, and what stayed as it was, and why."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LayerCoverage:
    """One layer.

    Attributes:
        name: Its name.
        kind: The name of its class in the plain model.
        random: Number of its weights that are random.
        total: Number of all its weights.
        reason: Why it stayed as it was; empty if it became random.
    """

    name: str
    kind: str
    random: int
    total: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What became random, layer by layer; printed, it is a table.

    Attributes:
        layers: The layers with weights.
    """

    layers: list[LayerCoverage]

    @property
    def random(self) -> int:
        """Number of random weights."""
        return sum(layer.random for layer in self.layers)

    @property
    def total(self) -> int:
        """Number of all weights, moving statistics included."""
        return sum(layer.total for layer in self.layers)

    @property
    def share(self) -> float:
        """The part of all weights that is random, from 0 to 1."""
        return self.random / self.total

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        lines = [
            f"{layer.name:{width}} {layer.kind:24} {layer.random:>10,} of {layer.total:>10,}"
            f"  {layer.reason}".rstrip()
            for layer in self.layers
        ]
        return "\n".join(
            [*lines, f"{self.random:,} of {self.total:,} weights are random ({self.share:.1%})"]
        )
