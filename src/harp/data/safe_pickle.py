"""The one pickle reader of the project: plain values and byte arrays, nothing that can run or forge memory.

A pickle is a program, and even numpy's own reconstruction trusts it: a forged dtype makes it read bytes as
pointers. So the names that old numpy pickles ask for are answered with the stand-ins below, which know one
dtype, uint8.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from harp.errors import HarpError


def read_pickle(file: Path) -> dict[str, Any]:
    """The dictionary pickled in `file`; Python 2 strings are read as Latin-1, arrays are uint8.

    Raises `HarpError` for a file that is missing or damaged, holds no dictionary, or asks for anything but
    plain values and uint8 arrays; nothing it asks for is imported or called.
    """
    try:
        with open(file, "rb") as stream:
            value = _Restricted(stream, file).load()
        return _checked(value, file)
    except HarpError:
        raise
    except FileNotFoundError:
        raise HarpError(f"no file {file}") from None
    # A damaged pickle can raise nearly anything, from EOFError to MemoryError.
    except Exception as error:
        raise HarpError(f"{file} is not a whole pickle: {type(error).__name__} {error}") from None


class _Dtype:
    """Stands in for `numpy.dtype`."""

    def __init__(self, code: str, *_: bool):
        if code not in ("u1", "|u1"):
            raise ValueError(f"an array of {code!r}; expected bytes, 'u1'")

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment, which a single byte does not have."""


class _Array:
    """Stands in for `numpy.ndarray`; `values` is the real one, once its state is known."""

    values: np.ndarray[Any, np.dtype[np.uint8]]

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes | str]) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype):
            raise TypeError("an array without a dtype")
        raw = data.encode("latin1") if isinstance(data, str) else data
        self.values = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> _Array:
    # Shape and code are always (0,) and b"b" here; the state that follows has the true ones.
    del kind, shape, code
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r}; expected 'latin1'")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


_SETS, _KEYED = (b"\x8f", b"\x90", b"\x91"), (pickle.SETITEM, pickle.SETITEMS, pickle.DICT)
_LOADS: dict[int, Callable[[Any], None]] = dict(pickle._Unpickler.dispatch)


class _Restricted(pickle._Unpickler):
    """Python's own reader: that in C takes gigabytes for a single number of its memo."""

    # Hashing a tuple of tuples may take for ever: so there are no sets, and keys are plain.
    dispatch: ClassVar = {code: load for code, load in _LOADS.items() if bytes([code]) not in _SETS}

    def __init__(self, stream: Any, file: Path):
        super().__init__(stream, encoding="latin1")
        self.file = file

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise HarpError(f"{self.file} asks for {module}.{name}; expected plain values and numpy arrays only")
        return _STAND_INS[module, name]


def _plainly(code: bytes) -> Callable[[Any], None]:
    def checked(reader: Any) -> None:
        keys = reader.stack[-2:-1] if code == pickle.SETITEM else reader.stack[::2]
        if strange := [key for key in keys if not isinstance(key, str | bytes | int)]:
            raise TypeError(f"a key that is a {type(strange[0]).__name__}")
        _LOADS[code[0]](reader)

    return checked


def _named(reader: Any) -> None:
    """Two lines and what they name; where the file ends in one of them, Python's own reader takes it for whole."""
    module, name = reader.readline(), reader.readline()
    if not name.endswith(b"\n"):
        raise EOFError("it ends within a name")
    reader.append(reader.find_class(module[:-1].decode(), name[:-1].decode()))


_Restricted.dispatch |= {pickle.GLOBAL[0]: _named}
_Restricted.dispatch |= {code[0]: _plainly(code) for code in _KEYED}


def _checked(value: object, file: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HarpError(f"{file} holds a {type(value).__name__}; expected a dictionary")
    return {str(key): entry.values if isinstance(entry, _Array) else entry for key, entry in value.items()}
