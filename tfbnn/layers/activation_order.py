"""Activation order: activations that had better come after the max pooling behind them."""

from tfbnn.layers.keras_layers import record_of
from tfbnn.layers.records import Pooling
from tfbnn.layers.steps import Step, Steps


def delayed_activations(steps: Steps) -> dict[Step, Step]:
    """Steps whose activation may wait for the max pooling that alone reads them: its step, by
    theirs.

    A function `f` that never falls has `max(f(x)) = f(max(x))`. After the pooling, fewer numbers go
    through it; and the rule for the maximum of normals is less wrong, because what an activation
    gives is far from normal.
    """
    readers = {step.output: [s for s in steps if step.output in s.inputs] for step in steps}
    return {
        step: readers[step.output][0]
        for step in steps
        if record_of(step).activation.never_falls
        and [_is_maximum(reader) for reader in readers[step.output]] == [True]
        and step.output is not steps.output
    }


def _is_maximum(step: Step) -> bool:
    record = record_of(step)
    return isinstance(record, Pooling) and record.kind == "maximum"
