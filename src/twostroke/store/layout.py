"""The file format of a round: a header, a table of checksums, then one row of bytes for each example.

    offset  bytes            content
    0       16               magic
    16      4                format version, little-endian, as all numbers here
    20      4                length of the JSON
    24      4                CRC-32 of the JSON
    28      4                zero
    32      length           JSON: sites, examples, round, view, what the masks are of, CRC-32 of the
                             table; then spaces up to a multiple of 4096 bytes
    ...     8 * 4096         checksum of each block of rows
    start   examples * row   rows, one after another; the file ends here

The header does not grow with the data: there are always 4096 blocks, of ⌈examples / 4096⌉ rows. A block's
checksum is the sum over its rows of `CRC-32(row) * (2 * index + 1)`, modulo 2^64: any altered row
changes it, rows that changed places change it, and rows may be added in any order.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import SupportFileError
from ..support import Site
from ..support.sites import row_bytes

MAGIC = b"twostroke store\n"
VERSION = 1
BLOCKS = 4096
_PAGE = 4096
_PREFIX = struct.Struct("<16sIIII")
_TABLE = 8 * BLOCKS
_LONGEST = 1 << 24  # bytes of JSON; a site takes about a hundred


class Origin(NamedTuple):
    """What masks are of: fingerprints of the model's structure and of the data, and the run's seed."""

    model: str = ""
    data: str = ""
    seed: int = 0


NOWHERE = Origin()


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    sites: tuple[Site, ...]
    examples: int
    origin: Origin
    round: int = 0
    view: int = 0

    @cached_property
    def row(self) -> int:
        """Bytes of one example."""
        return row_bytes(self.sites)

    @property
    def block(self) -> int:
        """Rows that share a checksum."""
        return max(1, -(-self.examples // BLOCKS))

    def text(self, table: bytes) -> bytes:
        """The JSON."""
        values = self.origin._asdict() | {
            "sites": [site.to_json() for site in self.sites],
            "examples": self.examples,
            "round": self.round,
            "view": self.view,
            "table": zlib.crc32(table),
        }
        return json.dumps(values).encode()

    def encode(self, table: bytes) -> bytes:
        """All that comes before the rows."""
        text = self.text(table)
        prefix = _PREFIX.pack(MAGIC, VERSION, len(text), zlib.crc32(text), 0)
        return (prefix + text).ljust(self.start - _TABLE) + table

    @cached_property
    def start(self) -> int:
        """Where the rows begin."""
        # the checksum of the table may take up to ten digits; leave room for all of them
        longest = len(self.text(b"")) + 10
        return -(-(_PREFIX.size + longest) // _PAGE) * _PAGE + _TABLE

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.start + self.examples * self.row


def decode(raw: bytes) -> tuple[Header, Tensor]:
    """Header and table of the first bytes of a file; `SupportFileError` says what is off.

    `raw` may be longer than needed, and is of no use when it is shorter.
    """
    if len(raw) < _PREFIX.size or not raw.startswith(MAGIC):
        raise SupportFileError("it does not begin as a store of supports does")
    _, version, length, check, zero = _PREFIX.unpack_from(raw)
    if version != VERSION:
        raise SupportFileError(
            f"it has format {version}, this version of twostroke reads {VERSION}"
        )
    text = raw[_PREFIX.size : _PREFIX.size + length]
    if zero or len(text) != length or zlib.crc32(text) != check:
        raise SupportFileError("its header is truncated or altered")
    try:
        values = json.loads(text)
        header = _header(values)
        checksum = values["table"]
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise SupportFileError(f"its header makes no sense ({error})") from error
    table = raw[header.start - _TABLE : header.start]
    gap = raw[_PREFIX.size + length : header.start - _TABLE]
    if len(table) != _TABLE or gap.strip(b" ") or zlib.crc32(table) != checksum:
        raise SupportFileError("its table of checksums is truncated or altered")
    return header, torch.frombuffer(bytearray(table), dtype=torch.int64)


def header_bytes(raw: bytes | bytearray) -> int:
    """How much of a file `decode` needs, from its first bytes; never more than some megabytes."""
    if len(raw) < _PREFIX.size or not raw.startswith(MAGIC):
        return 0
    length = min(int(_PREFIX.unpack_from(raw)[2]), _LONGEST)
    return _PREFIX.size + length + _TABLE + 2 * _PAGE


def _header(values: Mapping[str, Any]) -> Header:
    numbers = {name: values[name] for name in ("examples", "round", "view", "seed")}
    for name, value in numbers.items():
        if type(value) is not int or abs(value) >= 2**63:
            raise ValueError(f"{name} is {value!r:.40}")
    prints = {name: values[name] for name in ("model", "data")}
    for name, value in prints.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} is {value!r:.40}")
    entries = values["sites"]
    if not isinstance(entries, list):
        raise ValueError("there are no sites")
    sites = tuple(Site.from_json(entry) for entry in entries)
    # before anything is computed from them: products of what a hostile header holds may be endless
    if any(len(site.shape) > 16 or max(site.shape, default=0) >= 2**31 for site in sites):
        raise ValueError("a site is of no possible size")
    origin = Origin(prints["model"], prints["data"], numbers["seed"])
    header = Header(sites, numbers["examples"], origin, numbers["round"], numbers["view"])
    if header.examples < 0 or header.row < 1:
        raise ValueError("there are no rows")
    return header


def table_of(
    crcs: Tensor,  # (examples,) int64
    block: int,
) -> Tensor:  # (BLOCKS,) int64
    """Checksums of all blocks, from the CRC-32 of every row."""
    number = torch.arange(len(crcs))
    sums = torch.zeros(BLOCKS, dtype=torch.int64)
    return sums.index_add_(0, number // block, crcs * (2 * number + 1))  # wraps around at 2^64
