"""Scopes: how a caller of a model reaches the variational layers inside it.

Keras passes `training` down to the layers and nothing else. Two things more have to pass: the KL
of a training step comes up to the objective, and a rule of the caller (how to be random inside an
exported file, say) goes down. Both are context managers around the call of the model, active only
in the thread and only while the `with` block runs, so nothing is left on a layer.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

_active = threading.local()


class DrawCollector:
    """The KL of the weights drawn in one forward pass, and the seeds they were drawn with.

    A layer that is called twice takes the same seed twice, so that both calls go through the same
    weights: a draw is one network. Calls in another graph (Keras traces a layer once to find its
    shapes; loops have bodies) are noted, but their tensors cannot be used outside and are not kept.
    """

    def __init__(self) -> None:
        self.divergences: dict[Any, Any] = {}
        self.layers: set[Any] = set()
        self._seeds: dict[Any, Any] = {}
        self._graph = tf.compat.v1.get_default_graph()

    def seed(self, layer: Any) -> Any:
        """The seed that `layer` was called with, or None."""
        return self._seeds.get(layer) if self._in_own_graph() else None

    def record(self, layer: Any, seed: Any, divergences: dict[Any, Any]) -> None:
        """Note that `layer` was called with noise, and the KL of each of its random weights."""
        self.layers.add(layer)
        if self._in_own_graph():
            self._seeds[layer] = seed
            self.divergences.update(divergences)

    def _in_own_graph(self) -> bool:
        return tf.compat.v1.get_default_graph() is self._graph


@contextlib.contextmanager
def collect_draws() -> Iterator[DrawCollector]:
    """Collect the KL of every variational layer that is called with noise inside."""
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
