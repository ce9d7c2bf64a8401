"""Scopes: how a caller of a model reaches the variational layers inside it.

Keras passes `training` down to the layers and nothing else. Two things more have to pass: the draws
of a training step come up to the objective, and a rule of the caller (how to be random inside an
exported file, say) goes down. Both are context managers around the call of the model, active only
in the thread and only while the `with` block runs, so nothing is left on a layer.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

_active = threading.local()


class DrawCollector:
    """The weights drawn in one forward pass: the first draw of each weight."""

    def __init__(self) -> None:
        self.draws: dict[Any, Any] = {}
        self.layers: set[Any] = set()

    def record(self, layer: Any, draws: dict[Any, Any]) -> None:
        """Note that `layer` was called with noise and drew `draws`.

        A layer that is called twice has drawn its weights twice; its KL counts once.
        """
        self.layers.add(layer)
        for weight, draw in draws.items():
            self.draws.setdefault(weight, draw)


@contextlib.contextmanager
def collect_draws() -> Iterator[DrawCollector]:
    """Collect the draws of every variational layer that is called with noise inside."""
    with _set("collector", DrawCollector()) as collector:
        yield collector


@contextlib.contextmanager
def forward_rule(rule: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Let `rule(layer, inputs)` compute the linear part of every variational layer inside."""
    with _set("rule", rule):
        yield


def active_collector() -> DrawCollector | None:
    """The innermost active collector, or None."""
    return getattr(_active, "collector", None)


def active_rule() -> Callable[[Any, Any], Any] | None:
    """The innermost active rule, or None."""
    return getattr(_active, "rule", None)


@contextlib.contextmanager
def _set(name: str, value: Any) -> Iterator[Any]:
    previous = getattr(_active, name, None)
    setattr(_active, name, value)
    try:
        yield value
    finally:
        setattr(_active, name, previous)
