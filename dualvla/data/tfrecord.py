"""TFRecord files and `tf.train.Example` messages, without TensorFlow.

Only what RLDS needs: framing with masked CRC-32C sums, which tell a truncated or damaged file from
a good one, and the three kinds of features an Example holds. A TensorFlow dependency would be
larger than the rest of the project together. The checksum runs in NumPy, many blocks at once,
because a byte loop in Python would take hours on a real data set.
"""

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualvla.errors import UserError

POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected
MASK = 0xA282EAD8
BLOCK = 256  # bytes of a lane of the checksum
FULL = 0xFFFFFFFF
DOWNLOAD = "copy or download the file again"

Values = list[bytes] | NDArray[np.float32] | NDArray[np.int64]


def records(path: Path | str) -> Iterator[bytes]:
    """Yield the records of a TFRecord file.

    Raises:
        UserError: no such file, a checksum that does not match, or a file that ends in a record; it
            names record and byte.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no such file", where=str(path), fix="see rlds_path")
    size = path.stat().st_size
    with path.open("rb") as stream:
        position = number = 0
        while position < size:
            where = f"{path}, record {number}, byte {position}"
            header = stream.read(12)
            if len(header) < 12:
                raise UserError("truncated file", where=where, fix=DOWNLOAD)
            length, checksum = struct.unpack("<QI", header)
            if masked_crc32c(header[:8]) != checksum:
                raise UserError("damaged record length", where=where, fix=DOWNLOAD)
            # The length is compared before it is read, so that no file can ask for more memory.
            if position + 16 + length > size:
                raise UserError("truncated file", where=where, fix=DOWNLOAD)
            data = stream.read(length)
            (checksum,) = struct.unpack("<I", stream.read(4))
            if masked_crc32c(data) != checksum:
                raise UserError("damaged record: checksum differs", where=where, fix=DOWNLOAD)
            yield data
            position, number = position + 16 + length, number + 1


def frame(data: bytes) -> bytes:
    """A record as it lies in a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return b"".join(
        (
            length,
            struct.pack("<I", masked_crc32c(length)),
            data,
            struct.pack("<I", masked_crc32c(data)),
        )
    )


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, rotated and shifted as TFRecord stores it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + MASK) & FULL


def crc32c(data: bytes) -> int:
    """CRC-32C of bytes."""
    table = _table()
    blocks = len(data) // BLOCK
    crc = FULL
    if blocks:
        lanes = np.frombuffer(data, dtype=np.uint8, count=blocks * BLOCK).reshape(blocks, BLOCK)
        states = np.zeros(blocks, dtype=np.uint32)
        for byte in np.ascontiguousarray(lanes.T):
            states = table[(states ^ byte) & 0xFF] ^ (states >> np.uint32(8))
        # The sum is linear: the state after a block is the state moved on by a block of zeros,
        # combined with the block's own sum.
        first, second, third, fourth = _block_of_zeros()
        for state in states.tolist():
            crc = (
                first[crc & 0xFF]
                ^ second[crc >> 8 & 0xFF]
                ^ third[crc >> 16 & 0xFF]
                ^ fourth[crc >> 24]
                ^ state
            )
    values = table.tolist() if len(data) - blocks * BLOCK > 64 else table
    for byte in data[blocks * BLOCK :]:
        crc = int(values[(crc ^ byte) & 0xFF]) ^ (crc >> 8)
    return crc ^ FULL


def example(data: bytes, where: str = "example") -> dict[str, Values]:
    """Parse a `tf.train.Example`: feature -> list of bytes, float32 array or int64 array.

    Raises:
        UserError: not such a message.
    """
    features: dict[str, Values] = {}
    try:
        for _, body in _fields(data, wanted=1):
            for _, entry in _fields(body, wanted=1):
                parts = dict(_fields(entry))
                features[parts[1].decode("utf-8")] = _values(parts.get(2, b""))
    except (ValueError, KeyError, struct.error) as error:
        raise UserError(f"no tf.train.Example: {error}", where=where, fix=DOWNLOAD) from error
    return features


def _values(feature: bytes) -> Values:
    for kind, content in _fields(feature):
        if kind == 1:
            return [value for _, value in _fields(content, wanted=1)]
        if kind == 2:  # packed floats arrive as one run of bytes, unpacked ones four at a time
            return np.frombuffer(b"".join(v for _, v in _fields(content, wanted=1)), dtype="<f4")
        if kind == 3:
            return np.array(_integers(content), dtype=np.uint64).astype(np.int64)
    return []


def _integers(content: bytes) -> list[int]:
    values: list[int] = []
    for _, run in _fields(content, wanted=1):
        position = 0
        while position < len(run):
            value, position = _varint(run, position)
            values.append(value)
    return values


def _fields(data: bytes, wanted: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field of a protobuf message, or of those numbered `wanted`.

    A varint's content is its own bytes, so that packed and single integers read alike.
    """
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == 2:
            size, position = _varint(data, position)
        elif kind == 0:
            size = _varint(data, position)[1] - position
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if position + size > end:
            raise ValueError("a field is longer than its message")
        if wanted is None or number == wanted:
            yield number, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("a number without end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7


@cache
def _table() -> NDArray[np.uint32]:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd = (values & 1).astype(bool)
        values = (values >> np.uint32(1)) ^ np.where(odd, np.uint32(POLYNOMIAL), np.uint32(0))
    return values


@cache
def _block_of_zeros() -> tuple[list[int], ...]:
    """What a block of zeros makes of each byte of the state: four tables of 256."""
    table = _table()
    tables = []
    for shift in (0, 8, 16, 24):
        states = np.arange(256, dtype=np.uint32) << np.uint32(shift)
        for _ in range(BLOCK):
            states = table[states & 0xFF] ^ (states >> np.uint32(8))
        tables.append(states.tolist())
    return tuple(tables)
