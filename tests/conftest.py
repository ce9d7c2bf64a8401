"""What every test gets: a quiet TensorFlow, a fresh Keras, and real data where there are any."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator

# Before TensorFlow is imported, or it has no effect.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.autograph.impl import api as autograph

SEED = 0
# Two devices, for the tests of `tf.distribute`; everything else runs on the first.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
DATA = ("TFDS_DATA_DIR", "TFBNN_DATA")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests on real data and on GPUs where there are none."""
    _skip(items, "realdata", any(map(os.environ.get, DATA)), f"none of {', '.join(DATA)} is set")
    _skip(items, "gpu", bool(tf.config.list_physical_devices("GPU")), "TensorFlow sees no GPU")


def _skip(items: list[pytest.Item], marker: str, possible: bool, reason: str) -> None:
    for item in items:
        if not possible and item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def fresh_keras():
    """A test that passes alone passes after any other, and the other way round."""
    _as_in_a_new_process()


def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> None:
    """What several tests share is made before `fresh_keras` of the first of them."""
    if fixturedef.scope != "function":
        _as_in_a_new_process()


def _as_in_a_new_process() -> None:
    """Layer names and the dtype policy; the seed is that of all tests."""
    # Without collecting garbage, which takes a second beside so large libraries.
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(SEED)


@pytest.fixture(scope="session")
def mirrored() -> tf.distribute.Strategy:
    """Two replicas. One strategy for all tests: those of a process share their collectives."""
    from tfbnn.training import strategies

    return strategies.get("mirrored", ["CPU:0", "CPU:1"])


@pytest.fixture(autouse=True)
def converted(monkeypatch):
    """Functions of ours that AutoGraph was to rewrite, by name: there must be none.

    Whatever a test runs is proof that it does not need AutoGraph, which gives up in some programs.
    """
    names = []
    convert = autograph._convert_actual

    def noted(function, *args):
        if function.__module__.split(".")[0] in ("tfbnn", "trainers", "benchmarks"):
            names.append(f"{function.__module__}.{function.__qualname__}")
        return convert(function, *args)

    monkeypatch.setattr(autograph, "_convert_actual", noted)
    yield names
    assert not names, f"give these to `traced` (tfbnn/weights/tracing.py): {names}"


@pytest.fixture
def full_disk() -> Callable[[int], contextlib.AbstractContextManager]:
    """`with full_disk(number)`: the system writes no file beyond so many bytes."""
    resource = pytest.importorskip("resource", reason="this system limits no file sizes")

    @contextlib.contextmanager
    def limited(number: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def data_folder() -> pathlib.Path:
    """The folder of the real data sets that tensorflow-datasets does not have (TFBNN_DATA)."""
    return _folder("TFBNN_DATA")


@pytest.fixture(scope="session")
def mnist() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """MNIST as `{"train": (images, labels), "test": (images, labels)}`.

    Images are uint8 of shape `(60000 or 10000, 28, 28, 1)`, labels int64. It is read from
    TFDS_DATA_DIR and never downloaded.
    """
    folder = _folder("TFDS_DATA_DIR")
    if not (folder / "mnist").is_dir():
        pytest.skip(f"TFDS_DATA_DIR holds no prepared MNIST: {folder}")
    import tensorflow_datasets as tfds

    sets = tfds.load("mnist", data_dir=folder, batch_size=-1, as_supervised=True, download=False)
    return {name: (x.numpy(), y.numpy()) for name, (x, y) in sets.items()}


def _folder(variable: str) -> pathlib.Path:
    """The folder that an environment variable names; skips the test where there is none."""
    if not os.environ.get(variable):
        pytest.skip(f"real data: {variable} is not set")
    folder = pathlib.Path(os.environ[variable])
    if not folder.is_dir():
        pytest.skip(f"real data: {variable}={folder} is not a folder")
    return folder
