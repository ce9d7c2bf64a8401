"""Strategies: which devices a model is trained on, by name.

| name | TensorFlow's strategy | for |
|---|---|---|
| `"one_device"` | the default one | one device |
| `"mirrored"` | `MirroredStrategy` | several GPUs of one machine |
| `"multi_worker"` | `MultiWorkerMirroredStrategy` | several machines, each with a `TF_CONFIG` |
| `"tpu"` | `TPUStrategy` | a TPU; untested here, for want of one |

`"auto"` takes the first of multi-worker, mirrored and one device that the environment asks for.
The strategy is TensorFlow's own; what a model must do differently under one is in
`tfbnn.training.distribution`.
"""

import json
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfbnn import arguments
from tfbnn.training.distribution import is_chief as is_chief

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
"""The names `get` knows."""

_POLL_SECONDS = 0.2


def get(
    identifier: Any = "auto", devices: Sequence[str] | None = None, time_limit: float = 300.0
) -> tf.distribute.Strategy:
    """The strategy that a name stands for. Make and compile the model in its `scope()`.

    Call it at the start of the program: TensorFlow must not have run anything yet if CPUs are to
    be split or workers to be found.

    Args:
        identifier: A name in `STRATEGIES`, or a strategy, which is returned as it is.
        devices: Names such as `["GPU:0", "GPU:1"]`, for `"mirrored"` and `"one_device"`; all GPUs
            by default. More CPUs than the one there is are logical ones, `["CPU:0", "CPU:1"]`: a
            rehearsal on a machine without GPUs, not a gain.
        time_limit: Seconds to wait for the other workers.

    Returns:
        The strategy.

    Raises:
        ValueError: If the name or a device is unknown, or `TF_CONFIG` is malformed.
        NotImplementedError: For a parameter server.
        TimeoutError: If a worker does not appear; it says which.

    Example:

    >>> from tfbnn.training import strategies
    >>> strategies.get("one_device").num_replicas_in_sync
    1
    """
    if isinstance(identifier, tf.distribute.Strategy):
        _refuse_parameter_servers(type(identifier).__name__)
        return identifier
    _refuse_parameter_servers(str(identifier))
    if not isinstance(identifier, str) or identifier not in STRATEGIES:
        raise ValueError(
            f"A strategy must be one of {STRATEGIES} or a `tf.distribute.Strategy`. "
            f"Received: identifier={identifier!r}"
        )
    devices = None if devices is None else arguments.listed("devices", devices, arguments.text)
    time_limit = arguments.not_negative("time_limit", time_limit)
    name = _automatic(devices) if identifier == "auto" else identifier
    if devices and name not in ("one_device", "mirrored"):
        raise ValueError(
            f"The strategy {name!r} chooses its devices itself. Received: devices={list(devices)}"
        )
    if name == "multi_worker":
        return _multi_worker(time_limit)
    if name == "tpu":
        return _tpu()
    names = _existing(devices) if devices else None
    if name == "one_device" and len(names or []) > 1:
        raise ValueError(
            "The strategy 'one_device' takes one device; for several use 'mirrored'. "
            f"Received: devices={list(devices)}"
        )
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(names)
    return tf.distribute.OneDeviceStrategy(names[0]) if names else tf.distribute.get_strategy()


def cluster_of(text: str | None) -> tuple[list[str], int]:
    """The addresses of the workers, the chief's first, and the place of this one among them.

    Args:
        text: That of `TF_CONFIG`, JSON such as `{"cluster": {"worker": ["a:1234", "b:1234"]},
            "task": {"type": "worker", "index": 0}}`.

    Raises:
        ValueError: If the text is malformed; it says where.
        NotImplementedError: If the cluster has parameter servers.

    Example:

    >>> from tfbnn.training.strategies import cluster_of
    >>> cluster = '{"worker": ["a:1", "b:1"]}'
    >>> cluster_of('{"cluster": %s, "task": {"type": "worker", "index": 1}}' % cluster)
    (['a:1', 'b:1'], 1)
    """
    if not isinstance(text, str) or not text:
        raise _malformed("it is not set" if text is None else "it is no text", text)
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise _malformed(f"it is no JSON ({error})", text) from error
    cluster = config.get("cluster") if isinstance(config, dict) else None
    task = config.get("task") if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise _malformed("`cluster` and `task` must be objects", text)
    if "ps" in cluster:
        _refuse_parameter_servers("parameter_server")
    if not set(cluster) <= {"chief", "worker"}:
        raise _malformed(f"`cluster` has the unknown jobs {sorted(cluster)}", text)
    addresses = [
        (job, number, address)
        for job in ("chief", "worker")
        for number, address in enumerate(_addresses(cluster.get(job, []), text))
    ]
    own = [i for i, one in enumerate(addresses) if one[:2] == (task.get("type"), task.get("index"))]
    if not own:
        raise _malformed("`task` is not in `cluster`", text)
    if len({address for _, _, address in addresses}) < len(addresses):
        raise _malformed("two tasks have one address", text)
    return [address for _, _, address in addresses], own[0]


def _automatic(devices: Sequence[str] | None) -> str:
    if os.environ.get("TF_CONFIG"):
        return "multi_worker"
    # Logical devices would start TensorFlow, after which nothing can be configured.
    if len(devices or tf.config.list_physical_devices("GPU")) > 1:
        return "mirrored"
    return "one_device"


def _multi_worker(time_limit: float) -> tf.distribute.Strategy:
    addresses, own = cluster_of(os.environ.get("TF_CONFIG"))
    _wait_for_workers(addresses, own, time_limit)
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(
            "There is no TPU to connect to (and this path is untested, for want of one). "
            f"Received: strategy='tpu' ({error})"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _existing(devices: Sequence[str]) -> list[str]:
    """The devices, of which logical CPUs are made where there are too few."""
    wanted = [device.upper().rsplit("/", 1)[-1].removeprefix("DEVICE:") for device in devices]
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"A device is named twice. Received: devices={list(devices)}")
    cpus = [int(name[4:]) for name in wanted if name[:4] == "CPU:" and name[4:].isdigit()]
    if cpus:
        _split_cpu(max(cpus) + 1)
    known = [device.name for device in tf.config.list_logical_devices()]
    known = [name.removeprefix("/device:") for name in known]
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ValueError(
            f"There is no device {missing[0]!r}: TensorFlow sees {known}. "
            f"Received: devices={list(devices)}"
        )
    return wanted


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if count > len(tf.config.get_logical_device_configuration(cpu) or [None]):
        one = tf.config.LogicalDeviceConfiguration()
        try:
            tf.config.set_logical_device_configuration(cpu, [one] * count)
        except RuntimeError as error:
            raise ValueError(
                "The CPU can be split before TensorFlow has run anything only: ask for the "
                f"strategy first. Received: {count} CPUs"
            ) from error


def _wait_for_workers(addresses: list[str], own: int, time_limit: float) -> None:
    """Until every worker has answered; TensorFlow would wait for ever, and not say for whom.

    Each listens on its port and knocks at the others'. A worker that has seen all of them goes on
    to TensorFlow's server, which listens on the same port, so those that are still looking find it.
    """
    waiting = [i for i in range(len(addresses)) if i != own]
    end = time.monotonic() + time_limit
    with _listening(addresses[own], backlog=max(64, 2 * len(addresses))):
        while waiting:
            why = {i: _problem(addresses[i]) for i in waiting}
            waiting = [i for i in waiting if why[i]]
            if waiting and time.monotonic() > end:
                names = ", ".join(f"{i} ({addresses[i]}: {why[i]})" for i in waiting)
                raise TimeoutError(
                    f"Of {len(addresses)} workers, these did not appear within {time_limit:g} s: "
                    f"{names}. Start them, or mend TF_CONFIG. Received: this is worker {own}"
                )
            if waiting:
                time.sleep(_POLL_SECONDS)


def _listening(address: str, backlog: int) -> socket.socket:
    port = int(address.rsplit(":", 1)[1])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        # TensorFlow's server, too, listens on all interfaces.
        return socket.create_server(("", port), family=family, backlog=backlog, dualstack_ipv6=both)
    except OSError as error:
        raise ValueError(
            f"This worker cannot listen on its address: {error.strerror}. Another process may have "
            f"the port. Received: TF_CONFIG with {address}"
        ) from error


def _problem(address: str) -> str:
    """Why nobody answers at an address; nothing if somebody does."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _addresses(entry: Any, text: str) -> list[str]:
    valid = isinstance(entry, list) and all(
        isinstance(a, str) and a.rpartition(":")[0] and _is_port(a.rpartition(":")[2])
        for a in entry
    )
    if not valid:
        raise _malformed("a job must be a list of addresses 'host:port', ports to 65535", text)
    return entry


def _is_port(text: str) -> bool:
    return text.isdigit() and 0 < int(text) < 2**16


def _malformed(why: str, text: str | None) -> ValueError:
    return ValueError(
        f"TF_CONFIG does not say who the workers are: {why}. It must be like "
        '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
        '"task": {"type": "worker", "index": 0}}. '
        f"Received: TF_CONFIG={text!r}"
    )


def _refuse_parameter_servers(name: str) -> None:
    if name.lower().replace("_", "").startswith("parameterserver"):
        raise NotImplementedError(
            "ParameterServerStrategy is not supported: its workers update the weights without "
            "waiting for each other, and an ELBO of weights that change meanwhile is not what "
            "tfbnn promises. Use 'multi_worker'. Received: strategy=" + repr(name)
        )
