"""States: all that a run of training is, in one file of arrays."""

import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf

from tfbnn.whole_files import whole_file

State = dict[str, np.ndarray]
_FILE = "training.npz"
_POSITION = "position"
_RUN = "run"


class StateFile:
    """The file of a state in a folder.

    Args:
        folder: The folder, which is made if it is missing.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.path = folder / _FILE

    def write(self, state: State, run: tuple[int, ...], position: tuple[int, int]) -> None:
        """Write a state, with the run that it is of and the place in it, or an `OSError`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"Cannot make the folder of the state ({error.strerror}): choose another one"
            raise OSError(error.errno, reason, str(self.folder)) from error
        place = {_RUN: np.array(run, np.int64), _POSITION: np.array(position)}
        with whole_file(self.path) as file:
            np.savez(file, **state, **place)

    def read_of(self, run: tuple[int, ...]) -> State:
        """The state of a run, empty if there is none."""
        state = self.read()
        found = tuple(state[_RUN].tolist()) if state else run
        if found != run:
            raise ValueError(
                f"{self.path} holds the state of a run on other data, in other batches or with "
                "another seed: choose another folder, or remove it. "
                f"Received: {run}, not {found} (examples, batches in an epoch, seed)"
            )
        return state

    def read(self) -> State:
        """The state in the file, of whatever run, empty if there is none."""
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            return {}
        except OSError as error:
            reason = (
                f"Cannot read the state ({error.strerror}): remove it, or choose another `folder`"
            )
            raise OSError(error.errno, reason, str(self.path)) from error
        try:
            with file:
                state = _arrays(file)
            tuple(state[_RUN].tolist())
            position_in({_POSITION: state[_POSITION]})
        # Whatever a reader makes of bytes that were not written for it.
        except Exception as error:
            raise ValueError(
                f"The state of the training is damaged: {self.path} ({error}). Remove it to train "
                f"from the start. Received: folder={str(self.folder)!r}"
            ) from error
        return state


def position_in(state: State) -> tuple[int, int]:
    """The epoch and the batch at which training goes on."""
    epoch, batch = state.get(_POSITION, (0, 0))
    return int(epoch), int(batch)


def checksum_of(state: State) -> int:
    """Of all that is in a state; 0 if it is empty."""
    checksum = 0
    for name in sorted(state):
        checksum = zlib.crc32(np.ascontiguousarray(state[name]), checksum)
    return checksum


def listed(kind: str, variables: Sequence[Any]) -> State:
    """The values of some variables, in their order, under the name of their kind."""
    values = (tf.convert_to_tensor(variable.value).numpy() for variable in variables)
    return {f"{kind}_{number:05d}": value for number, value in enumerate(values)}


def assign(state: State, kind: str, variables: Sequence[Any]) -> bool:
    """Give variables the values of a kind, if there is a fitting one for each; whether there is."""
    arrays = [state[key] for key in sorted(state) if key.startswith(f"{kind}_")]
    types = [np.dtype(tf.as_dtype(variable.dtype).as_numpy_dtype) for variable in variables]
    found = [(array.shape, array.dtype.kind, array.dtype.itemsize) for array in arrays]
    wanted = [(tuple(v.shape), t.kind, t.itemsize) for v, t in zip(variables, types, strict=True)]
    if found != wanted:
        return False
    for variable, array, dtype in zip(variables, arrays, types, strict=True):
        # In a file, NumPy knows of bfloat16 only how large it is.
        variable.assign(tf.constant(array.view(dtype)))
    return True


def _arrays(file: BinaryIO) -> State:
    """The arrays of a file of `numpy.savez`."""
    with zipfile.ZipFile(file) as members:
        # As written by us. Compressed, a small file could fill the memory.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
            raise ValueError("it is compressed")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        read = {**arrays}
    # A member that is no array comes as its bytes.
    strange = [name for name, array in read.items() if not isinstance(array, np.ndarray)]
    if strange:
        raise ValueError(f"{strange[0]!r} is no array")
    return read
