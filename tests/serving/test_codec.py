import contextlib
import pickle

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from dualvla.serving import codec

NUMBERS = some.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
)
ARRAYS = arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0))


@settings(deadline=None)
@given(ARRAYS)
def test_an_array_comes_back_to_the_last_bit(array):
    back = codec.decode(codec.encode({"a": [array]}))["a"][0]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable


@settings(deadline=None)
@given(NUMBERS.flatmap(arrays.from_dtype))
def test_a_scalar_comes_back(scalar):
    np.testing.assert_array_equal(codec.decode(codec.encode(scalar)), scalar)


@settings(deadline=None)
@given(some.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(ValueError):
        codec.decode(data)


@settings(deadline=None)
@given(some.dictionaries(
    some.sampled_from([b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"]),
    some.one_of(
        some.booleans(), some.integers(-1, 9), some.floats(), some.binary(max_size=9),
        some.sampled_from(["<f4", "|O", "<i8", "|b1", "", "<f4,<f4", "<M8[s]"]),
        some.lists(some.integers(-1, 9), max_size=3),
    ),
))  # fmt: skip
def test_a_map_that_claims_to_be_an_array_is_one_of_numbers_or_refused(claimed):
    try:
        found = codec.decode(msgpack.packb(claimed))
    except ValueError:
        return
    if isinstance(found, np.ndarray | np.generic):
        assert found.dtype.kind in "biuf"
    else:
        assert not {b"__ndarray__", b"__npgeneric__"} & found.keys()


def test_the_bytes_are_those_of_openpi():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    sent = msgpack.unpackb(codec.encode({"observation/state": array, "n": np.int16(-2)}))
    assert sent["observation/state"] == {
        b"__ndarray__": True,
        b"data": np.ascontiguousarray(array).tobytes(),
        b"dtype": "<f4",
        b"shape": [3, 2],
    }
    assert sent["n"] == {b"__npgeneric__": True, b"data": -2, b"dtype": "<i2"}


class Trap:
    """Runs something when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("dtype", ["|O", "O", "|V8", "<U4", "<c8", "<M8[s]", "<f4,<f4", "(2,)<f4"])
def test_what_is_no_number_is_neither_unpickled_nor_read(dtype):
    data = pickle.dumps(Trap())
    array = {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": [1]}
    with pytest.raises(ValueError, match="numbers alone are read"):
        codec.decode(msgpack.packb(array))
    assert not Trap.sprung


@pytest.mark.parametrize(
    "value",
    [
        np.array([None]),
        np.array(["text"]),
        np.zeros(1, "f4,f4"),
        np.zeros(1, complex),
        np.datetime64(0, "s"),
        {1, 2},
        object(),
        2**70,
    ],
)
def test_what_is_no_number_is_not_sent(value):
    with pytest.raises(ValueError, match="cannot be sent"):
        codec.encode({"a": value})


@pytest.mark.parametrize("shape", [[3], [], [2, -1], [2**70 % 2**63, 0], [0] * 9, "2", None, [2.0]])
def test_an_array_of_another_size_than_its_bytes_is_refused(shape):
    array = {b"__ndarray__": True, b"data": b"12345678", b"dtype": "<f4", b"shape": shape}
    with pytest.raises(ValueError, match="array"):
        codec.decode(msgpack.packb(array))


def test_limits_hold(monkeypatch):
    with pytest.raises(ValueError, match="max_array_len"):
        codec.decode(msgpack.packb([0] * (codec.MAX_ITEMS + 1)))
    with pytest.raises(ValueError, match="not msgpack"):
        codec.decode(b"\x91" * 100_000 + b"\x00")
    monkeypatch.setattr(codec, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="at most 100"):
        codec.encode(np.zeros(100, np.uint8))
    with pytest.raises(ValueError, match="at most 100"):
        codec.decode(bytes(101))
