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

    A map that is called twice takes the same seed twice, so that both calls go through the same
    weights: a draw is one network. So it is in a loop, such as that over the steps of a
    `keras.layers.RNN`, whose seeds are made before it. The KL of calls in another graph (Keras
    traces a layer once to find its shapes; loops have bodies) cannot be used outside and is not
    kept.
    """

    def __init__(self) -> None:
        self.divergences: dict[Any, Any] = {}
        self.maps: set[Any] = set()
        self._seeds: dict[Any, Any] = {}
        self._graph = tf.compat.v1.get_default_graph()

    def seed(self, random_map: Any) -> tf.Tensor:
        """The seed of all calls of `random_map`."""
        with outside_loops(self._graph) as graph:
            if graph is not self._graph:
                return random_map.next_seed()
            if random_map not in self._seeds:
                self._seeds[random_map] = random_map.next_seed()
            return self._seeds[random_map]

    def record(self, random_map: Any, divergences: dict[Any, Any]) -> None:
        """Note that `random_map` was called with noise, and the KL of each of its weights."""
        self.maps.add(random_map)
        if tf.compat.v1.get_default_graph() is self._graph:
            self.divergences.update(divergences)


@contextlib.contextmanager
def collect_draws() -> Iterator[DrawCollector]:
    """Collect the KL of every variational layer that is called with noise inside."""
    with _set("collector", DrawCollector()) as collector:
        yield collector


@contextlib.contextmanager
def forward_rule(rule: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Let `rule(random_map, inputs)` compute every random map inside."""
    with _set("rule", rule):
        yield


def active_collector() -> DrawCollector | None:
    """The innermost active collector, or None."""
    return getattr(_active, "collector", None)


def active_rule() -> Callable[[Any, Any], Any] | None:
    """The innermost active rule, or None."""
    return getattr(_active, "rule", None)


@contextlib.contextmanager
def outside_loops(limit: tf.Graph) -> Iterator[tf.Graph]:
    """Make operations before the loops that the current graph is in, once for all of their steps.

    Loops around the graph `limit` do not count.
    """
    graph = here = around = tf.compat.v1.get_default_graph()
    while graph is not None and graph is not limit:
        outer = getattr(graph, "outer_graph", None)
        around = outer if getattr(graph, "is_control_flow_graph", False) else around
        graph = outer
    with contextlib.nullcontext() if around is here else around.as_default():
        yield around


@contextlib.contextmanager
def _set(name: str, value: Any) -> Iterator[Any]:
    previous = getattr(_active, name, None)
    setattr(_active, name, value)
    try:
        yield value
    finally:
        setattr(_active, name, previous)
