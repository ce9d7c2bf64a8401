"""Strategies by name, and what is said of a cluster that cannot be."""

import json
import socket
import threading

import pytest
import tensorflow as tf

from tfbnn.training import strategies


def _config(workers=("a:1", "b:1"), kind="worker", index=0, **jobs):
    cluster = {"worker": list(workers), **jobs}
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def test_by_name(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert strategies.get("one_device").num_replicas_in_sync == 1
    assert strategies.get("one_device", ["CPU:1"]).extended.worker_devices[0].endswith("CPU:1")
    assert strategies.get("mirrored", ["cpu:0", "/device:CPU:1"]).num_replicas_in_sync == 2
    assert strategies.get("auto", ["CPU:0", "CPU:1"]).num_replicas_in_sync == 2
    one = tf.distribute.OneDeviceStrategy("CPU:0")
    assert strategies.get(one) is one
    if not tf.config.list_physical_devices("GPU"):
        assert strategies.get().num_replicas_in_sync == 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("everything",), ValueError, "one of .*mirrored.*Received: identifier='everything'"),
        (("parameter_server",), NotImplementedError, "ParameterServerStrategy is not supported"),
        (("mirrored", ["GPU:7"]), ValueError, "no device 'GPU:7'"),
        (("mirrored", ["CPU:0", "CPU:0"]), ValueError, "named twice"),
        (("one_device", ["CPU:0", "CPU:1"]), ValueError, "takes one device"),
        (("mirrored", ["CPU:5"]), ValueError, "before TensorFlow has run"),
        (("multi_worker", ["CPU:0"]), ValueError, "chooses its devices itself"),
        (("tpu",), ValueError, "no TPU"),
    ],
)
def test_what_cannot_be_is_refused(arguments, error, words):
    tf.config.list_logical_devices()
    with pytest.raises(error, match=words):
        strategies.get(*arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "not set"),
        ("{", "no JSON"),
        ("[]", "must be objects"),
        ('{"cluster": {"worker": ["a:1"]}}', "must be objects"),
        (_config(workers=["a"]), "host:port"),
        (_config(workers=["a:1", "b:99999"]), "65535"),
        (_config(workers=["a:1", "a:1"]), "one address"),
        (_config(index=2), "not in `cluster`"),
        (_config(kind="evaluator"), "not in `cluster`"),
        (_config(evaluator=["c:1"]), "unknown jobs"),
    ],
)
def test_a_malformed_cluster_is_refused(monkeypatch, text, words):
    if text is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=words) as error:
        strategies.get("multi_worker")
    assert "Received: TF_CONFIG" in str(error.value)


def test_a_cluster_with_a_chief_or_with_parameter_servers():
    assert strategies.cluster_of(_config(chief=["c:1"], index=1)) == (["c:1", "a:1", "b:1"], 2)
    with pytest.raises(NotImplementedError, match="ParameterServerStrategy"):
        strategies.cluster_of(_config(ps=["c:1"]))


def _free_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_workers_that_do_not_appear_are_named():
    addresses = [_free_address(), _free_address()]
    with pytest.raises(
        TimeoutError, match=rf"within 0.5 s: 1 \({addresses[1]}: Connection refused\)"
    ):
        strategies._wait_for_workers(addresses, own=0, time_limit=0.5)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ValueError, match="cannot listen"):
            strategies._wait_for_workers([address], own=0, time_limit=1.0)


def test_workers_find_each_other_whoever_comes_first():
    addresses = [_free_address() for _ in range(3)]
    found, everyone = [], threading.Barrier(3, timeout=20.0)

    def worker(index):
        strategies._wait_for_workers(addresses, index, 10.0)
        # TensorFlow's server takes the port over.
        with socket.create_server(("", int(addresses[index].split(":")[1]))):
            found.append(index)
            everyone.wait()

    threads = [threading.Timer(0.3 * index, worker, (index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert sorted(found) == [0, 1, 2]
