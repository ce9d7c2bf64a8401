"""Keras knows the classes of tfbnn, whichever of the two was imported first.

`keras.models.load_model` finds a class that is registered, and a class is registered when its
module is imported. `import tfbnn` cannot import them all, because `import tfbnn.lite` runs it too
and must work, and be quick, where TensorFlow is not installed. So they are imported when Keras is:
at once if it is there, and else by a finder that sees the import of Keras go by.

Keras may be imported by a module of tfbnn, which is then half made and cannot be asked for more. So
the finder sees tfbnn's modules as well. A thread whose own import has ended waits until no other
thread's is under way, and imports the classes then: they are there when `import keras` is over.
Nothing is looked for that is not Keras or tfbnn, and nothing of this stays on a module.
"""

import contextlib
import importlib
import sys
import threading
from typing import Any

_REGISTERS_ALL = "tfbnn.training.models"
_SECONDS_TO_WAIT = 10.0


def install() -> None:
    """See to it that from now on, where there is Keras, there are the classes of tfbnn."""
    if not any(type(finder) is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _register()


def _register() -> None:
    if "keras" not in sys.modules:
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
    """The imports under way that a finder sees: in which threads, and how deep."""

    def __init__(self) -> None:
        self._depths: dict[int, int] = {}
        self._changed = threading.Condition()

    def begin(self) -> None:
        with self._changed:
            thread = threading.get_ident()
            self._depths[thread] = self._depths.get(thread, 0) + 1

    def end(self) -> None:
        """Let an import end; the outermost one of a thread when the classes are there."""
        thread = threading.get_ident()
        with self._changed:
            self._depths[thread] -= 1
            if self._depths[thread]:
                return
            del self._depths[thread]
            self._changed.notify_all()
            # Not for ever: the others may want a module that this thread is importing around this.
            self._changed.wait_for(lambda: not self._depths, _SECONDS_TO_WAIT)
        # Seen by the finder, it would wait for itself.
        with self._changed:
            self._depths[thread] = 1
        try:
            _register()
        finally:
            with self._changed:
                del self._depths[thread]
                self._changed.notify_all()


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
            self._under_way.end()

    def __getattr__(self, name: str) -> Any:
        # Before the module is executed, as for `importlib.util.find_spec("keras")`.
        return getattr(self._loader, name)
