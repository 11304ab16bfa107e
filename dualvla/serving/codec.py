"""Messages as bytes: msgpack with numpy arrays, written as openpi's `msgpack_numpy` writes them.

An array is a map of its bytes, dtype and shape. What a stranger sends is copied into numbers and
nothing else: no pickle, no object or void dtype, no array longer than the message it came in.
Text, complex and long double arrays, which openpi would let through, are refused too: no policy
has a use for them.
"""

import math
import re
from typing import Any

import msgpack
import numpy as np

MAX_BYTES = 64 * 2**20  # of a message; 64 pictures of 640x480 fit
MAX_ITEMS = 4096  # of a list or a map
MAX_DIMENSIONS = 8
DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")

_ARRAY, _SCALAR, _DATA, _DTYPE, _SHAPE = (
    b"__ndarray__",
    b"__npgeneric__",
    b"data",
    b"dtype",
    b"shape",
)


def encode(value: Any) -> bytes:
    """Bytes of plain data with numpy arrays and scalars of numbers in it.

    Raises:
        ValueError: a type or dtype that cannot be sent, or too large.
    """
    try:
        data = msgpack.packb(value, default=_pack)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"cannot be sent: {error}") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"a message of {len(data)} bytes, at most {MAX_BYTES} can be sent")
    return data


def decode(data: bytes) -> Any:
    """What `encode` was given; arrays are copies that may be written to.

    Raises:
        ValueError: not msgpack, too large, or an array that is not one of numbers.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"a message of {len(data)} bytes, at most {MAX_BYTES} are read")
    limits = {"max_array_len": MAX_ITEMS, "max_map_len": MAX_ITEMS}
    try:
        return msgpack.unpackb(data, object_hook=_unpack, **limits)
    except (msgpack.UnpackException, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not msgpack: {type(error).__name__} {error}".rstrip()) from error


def _pack(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"a {type(value).__name__}")
    if not DTYPE.fullmatch(value.dtype.str):
        raise TypeError(f"dtype {value.dtype}")
    if isinstance(value, np.generic):
        return {_SCALAR: True, _DATA: value.item(), _DTYPE: value.dtype.str}
    return {
        _ARRAY: True,
        _DATA: value.tobytes(),
        _DTYPE: value.dtype.str,
        _SHAPE: list(value.shape),
    }


def _unpack(found: dict[Any, Any]) -> Any:
    if _ARRAY in found:
        return _array(_dtype(found), found.get(_SHAPE), found.get(_DATA))
    if _SCALAR in found:
        value = found.get(_DATA)
        if not isinstance(value, bool | int | float):
            raise ValueError("a numpy scalar that is no number")
        return _dtype(found).type(value)
    return found


def _dtype(found: dict[Any, Any]) -> np.dtype[Any]:
    name = found.get(_DTYPE)
    if not isinstance(name, str) or not DTYPE.fullmatch(name):
        raise ValueError(f"dtype {name!r:.40} is refused: numbers alone are read")
    return np.dtype(name)


def _array(dtype: np.dtype[Any], shape: Any, data: Any) -> np.ndarray:
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise ValueError("an array without its bytes or shape")
    if not all(type(size) is int and 0 <= size <= MAX_BYTES for size in shape):
        raise ValueError(f"an array of shape {shape!r:.80}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} and {dtype} in {len(data)} bytes")
    return np.ndarray(tuple(shape), dtype, data).copy()
