"""Keras loads a model of tfbnn, whichever of the two was imported first."""

import os
import pathlib
import shutil
import subprocess
import sys

import keras
import pytest

import tfbnn

REPOSITORY = pathlib.Path(tfbnn.__file__).parents[1]

# Packages of the same names and the same ways of importing each other, which take no time.
_SMALL = {
    "keras/__init__.py": "from keras import layers\nloaded = True",
    "keras/layers.py": "",
    "tfbnn/__init__.py": "from tfbnn import registration\nregistration.install()",
    "tfbnn/lite.py": "",
    "tfbnn/priors.py": "from tfbnn.weights.priors import Normal",
    "tfbnn/weights/__init__.py": "",
    "tfbnn/weights/priors.py": "import keras\nNormal = keras.layers",
    "tfbnn/layers/__init__.py": "",
    "tfbnn/layers/dense.py": "import keras\nfrom tfbnn.weights.priors import Normal\nDense = 1",
    "tfbnn/training/__init__.py": "",
    "tfbnn/training/models.py": "from tfbnn.layers.dense import Dense\nimport keras\nkeras.loaded",
    "tfbnn/search/__init__.py": "import keras\nfrom tfbnn.training.models import Dense",
    "tfbnn/slow.py": "import threading\nbegun.set()\ngo_on.wait()",
    "tfbnn/broken.py": "import keras\nraise ImportError('broken')",
}
# Packages first: Python locks a module before it imports the package around it, so that two threads
# that import a package and a module in it meet a deadlock of Python's own.
_IN_THREADS = """
import sys, tfbnn.layers, tfbnn.training, tfbnn.weights
from concurrent import futures
sys.setswitchinterval(1e-6)
modules = ["keras", "tfbnn.priors", "tfbnn.layers.dense", "tfbnn.search", "tfbnn.training.models"]
with futures.ThreadPoolExecutor(5) as pool:
    list(pool.map(__import__, modules))
"""


@pytest.mark.parametrize(
    "order",
    [
        "import tfbnn; import keras",
        "import keras; import tfbnn",
        "import tfbnn.lite; import keras",
        "import tfbnn; from keras import layers",
        "import tfbnn.priors",
        "import tfbnn.search",
        "from tfbnn.layers.dense import Dense",
        "from tfbnn.weights import priors",
        # Whether Keras is installed is often asked before it is imported.
        "import importlib.util, tfbnn; importlib.util.find_spec('keras').origin[0]; import keras",
        "import importlib, tfbnn; importlib.reload(tfbnn); import keras",
        _IN_THREADS,
    ],
)
def test_the_order_of_imports_does_not_matter(order, tmp_path):
    _small(tmp_path)
    code = f"""{order}
import sys
assert "tfbnn.training.models" in sys.modules
# Nothing of the finder stays.
for name in ("keras", "tfbnn.layers.dense", "tfbnn.training.models"):
    module = sys.modules[name]
    assert module.__loader__ is module.__spec__.loader, name
    assert type(module.__loader__).__name__ == "SourceFileLoader", name
assert "tfbnn.search" in sys.modules or "search" not in {order!r}
"""
    run = _python(code, tmp_path)
    assert run.returncode == 0, run.stderr


def _small(folder):
    for name, code in _SMALL.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)
    shutil.copy(REPOSITORY / "tfbnn" / "registration.py", folder / "tfbnn")


def test_after_the_import_of_keras_the_classes_are_there_whatever_other_threads_do(tmp_path):
    _small(tmp_path)
    code = """
import builtins, sys, threading
builtins.begun, builtins.go_on = threading.Event(), threading.Event()
import tfbnn
other = threading.Thread(target=__import__, args=["tfbnn.slow"])
other.start()
begun.wait()
# The thread goes on when this one waits for it.
threading.Timer(0.5, go_on.set).start()
import keras
assert hasattr(sys.modules["tfbnn.training.models"], "Dense")
"""
    run = _python(code, tmp_path)
    assert run.returncode == 0, run.stderr


def test_an_import_that_fails_registers_too(tmp_path):
    _small(tmp_path)
    code = """
import sys, tfbnn
try:
    import tfbnn.broken
except ImportError:
    assert hasattr(sys.modules["tfbnn.training.models"], "Dense")
else:
    assert False
"""
    run = _python(code, tmp_path)
    assert run.returncode == 0, run.stderr


def test_keras_loads_a_model_of_a_package_that_was_imported_before_it(tmp_path):
    prior = tfbnn.priors.Laplace()
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2, kernel_prior=prior)])
    model.save(tmp_path / "model.keras")
    for name in tfbnn.__all__:
        getattr(tfbnn, name)
    code = f"import tfbnn, keras; keras.models.load_model({str(tmp_path / 'model.keras')!r})"
    run = _python(f"{code}; print(*keras.saving.get_custom_objects())")
    known = {name for name in keras.saving.get_custom_objects() if name.startswith("tfbnn")}
    # All that any module of tfbnn registers.
    assert known <= set(run.stdout.split()), run.stderr[-3000:]


def test_keras_can_be_imported_where_the_layers_cannot():
    code = (
        "import sys; sys.modules['tensorflow_probability'] = None; import tfbnn, keras, tfbnn.lite"
    )
    run = _python(f"{code}\nprint(keras.__name__)\ntfbnn.layers")
    assert run.stdout == "keras\n"
    # Said where it is needed.
    assert run.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of tensorflow_prob")


def test_the_runtime_imports_neither():
    run = _python("import sys, tfbnn.lite; print({'keras', 'tensorflow'} & set(sys.modules))")
    assert run.stdout == "set()\n", run.stderr[-3000:]


def test_the_finder_leaves_other_imports_alone():
    (finder,) = [one for one in sys.meta_path if type(one).__module__ == "tfbnn.registration"]
    assert finder.find_spec("json") is None and finder.find_spec("keras_tuner") is None
    assert finder.find_spec("tfbnn.no_such_module", tfbnn.__path__) is None


def _python(code: str, folder: pathlib.Path = REPOSITORY) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
