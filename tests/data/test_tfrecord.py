import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla.data import tfrecord
from dualvla.errors import UserError


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def encode(features: dict) -> bytes:
    """A tf.train.Example, floats packed and integers not, both of which occur."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, list):
            inner = field(1, b"".join(field(1, item) for item in value))
        elif value.dtype == np.float32:
            inner = field(2, field(1, value.tobytes()))
        else:
            inner = field(3, b"".join(varint(8) + varint(int(v) % 2**64) for v in value))
        entries += field(1, field(1, name.encode()) + field(2, inner))
    return field(1, entries)


@given(st.binary(max_size=1500))
def test_checksum_is_crc32c(data):
    assert tfrecord.crc32c(data) == slow_crc32c(data)


def test_checksum_of_the_standard_vector():
    assert tfrecord.crc32c(b"123456789") == 0xE3069283


@given(st.lists(st.binary(max_size=400), max_size=5))
def test_records_come_back(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "f"
    path.write_bytes(b"".join(map(tfrecord.frame, records)))
    assert list(tfrecord.records(path)) == records


@given(st.data())
def test_any_cut_or_flip_is_noticed(tmp_path_factory, data):
    whole = tfrecord.frame(b"a" * 30) + tfrecord.frame(b"b" * 50)
    cut = data.draw(st.integers(1, len(whole) - 1))
    damaged = whole[:cut]
    if data.draw(st.booleans()):
        damaged = whole[:cut] + bytes([whole[cut] ^ 1 << data.draw(st.integers(0, 7))])
        damaged += whole[cut + 1 :]
    elif cut == len(tfrecord.frame(b"a" * 30)):
        return  # between two records: only the declared number of records can tell
    path = tmp_path_factory.mktemp("records") / "f"
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"record \d, byte"):
        list(tfrecord.records(path))


def test_a_record_larger_than_its_file_is_not_read(tmp_path):
    length = struct.pack("<Q", 2**60)
    header = length + struct.pack("<I", tfrecord.masked_crc32c(length))
    (tmp_path / "f").write_bytes(header + bytes(100))
    with pytest.raises(UserError, match="truncated"):
        list(tfrecord.records(tmp_path / "f"))


@given(
    floats=st.lists(st.floats(width=32, allow_nan=False), max_size=20),
    integers=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    texts=st.lists(st.binary(max_size=20), max_size=5),
)
def test_examples_come_back(floats, integers, texts):
    features = {
        "a/b": np.array(floats, np.float32),
        "i": np.array(integers, np.int64),
        "t": texts,
    }
    parsed = tfrecord.example(encode(features))
    assert list(parsed["a/b"]) == list(features["a/b"])
    assert list(parsed["i"]) == integers
    assert parsed["t"] == texts


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x05ab", b"\x0b", b"\x0a\x02\x0a\x09"])
def test_other_messages_are_refused(data):
    with pytest.raises(UserError, match=r"no tf\.train\.Example"):
        tfrecord.example(data)
