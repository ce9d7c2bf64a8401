"""Keras knows the classes of tfbnn, whichever of the two was imported first.

`keras.models.load_model` finds a class that is registered, and a class is registered when its
module is imported. `import tfbnn` cannot import them all, because `import tfbnn.lite` runs it too
and must work, and be quick, where TensorFlow is not installed. So they are imported when Keras is:
at once if it is there, and else by a finder that sees the import of Keras go by.

Keras may be imported by a module of tfbnn, which is then half made and cannot be asked for more. So
the finder sees tfbnn's modules as well, and acts when the last import under way, in whatever
thread, has ended. Nothing is looked for that is not Keras or tfbnn, and nothing of this stays on a
module.
"""

import contextlib
import importlib
import sys
import threading
from typing import Any

_REGISTERS_ALL = "tfbnn.training.models"


def install() -> None:
    """See to it that from now on, where there is Keras, there are the classes of tfbnn."""
    if not any(type(finder) is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _register()


def _register() -> None:
    if "keras" not in sys.modules or _REGISTERS_ALL in sys.modules:
        return
    # Somebody else's import must not fail because, say, tensorflow-probability is missing; that is
    # said at the first use of a name of tfbnn.
    with contextlib.suppress(Exception):
        importlib.import_module(_REGISTERS_ALL)


class _Finder:
    """Finds what the finders behind it find, with a loader that registers afterwards."""

    def __init__(self) -> None:
        self._under_way = _UnderWay()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "keras" and not name.startswith("tfbnn."):
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self._under_way)
                return spec
        return None


class _UnderWay:
    """How many of the imports that a finder sees are under way, in all threads."""

    def __init__(self) -> None:
        self._number = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self._number += 1

    def end(self) -> bool:
        """Whether it was the last."""
        with self._lock:
            self._number -= 1
            return self._number == 0


class _Loader:
    """A loader in whose place it stands until the module is executed."""

    def __init__(self, loader: Any, under_way: _UnderWay):
        self._loader = loader
        self._under_way = under_way

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._under_way.begin()
        try:
            self._loader.exec_module(module)
            # The module is whole. A thread that waited for it while this one registers, and held a
            # module that is needed for that, would make a circle; Python breaks such a circle by
            # an error, or by handing out a module that is half made.
            module.__spec__._initializing = False
        finally:
            last = self._under_way.end()
        if last:
            _register()

    def __getattr__(self, name: str) -> Any:
        # Before the module is executed, as for `importlib.util.find_spec("keras")`.
        return getattr(self._loader, name)
