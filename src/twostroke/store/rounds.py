"""One round in a file: written by a support stroke, then read row by row.

Rows are fetched by positioned reads, not through a memory map: a file that is cut short or a disk that
fails then gives an error and not the death of the process (SIGBUS), and what was read is no part of the
process's memory.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .._files import beside, put
from ..errors import StoreError, SupportFileError
from .layout import Header, Origin, decode, header_bytes, table_of

_CHUNK = 1 << 23  # bytes that are read or written at a time


class RoundWriter:
    """A file beside `path`, to which rows are written in any order; `publish` puts it in place.

    Its space is reserved at once, so that a disk that is too full is known before the stroke begins.
    Raises `StoreError` for whatever the system refuses.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.crcs = torch.full((header.examples,), -1, dtype=torch.int64)
        self._partial = beside(path)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
            self._file = os.open(self._partial, flags, 0o666)
            self._close = weakref.finalize(self, os.close, self._file)
            _reserve(self._file, header.size)
        except OSError as error:
            self.abandon()
            raise self._refused(error) from error

    def write(self, indices: Tensor, rows: Tensor) -> None:
        """Put rows (count, bytes) uint8 at the places `indices`, (count,) int64."""
        data, size, start = _view(rows), self.header.row, self.header.start
        places = indices.tolist()
        crcs = [zlib.crc32(data[k * size : (k + 1) * size]) for k in range(len(places))]
        try:
            for first, count in _stretches(places):
                piece = data[first * size : (first + count) * size]
                _write(self._file, piece, start + places[first] * size)
        except OSError as error:
            raise self._refused(error) from error
        self.crcs[indices] = torch.tensor(crcs, dtype=torch.int64)

    def publish(self) -> RoundFile:
        """Write the header, and give the file its name; what had that name before is replaced."""
        table = _bytes(table_of(self.crcs, self.header.block))
        head = self.header.encode(table)
        try:
            _write(self._file, memoryview(head), 0)
            put(self._partial, self.path)
        except OSError as error:
            raise self._refused(error) from error
        self._close.detach()
        return RoundFile(self.path, self._file, self.header, self.crcs, _digest(head))

    def abandon(self) -> None:
        """Delete what was written."""
        if hasattr(self, "_close"):
            self._close()
        self._partial.unlink(missing_ok=True)

    def _refused(self, error: OSError) -> StoreError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        fix = (
            f"free {self.header.size / 1e6:,.1f} MB there, or use another disk"
            if full
            else "is the folder there, and may it be written to?"
        )
        return StoreError(
            f"{self.path} could not be written ({error.strerror}); what was there before is untouched: "
            f"{fix}"
        )


class RoundFile:
    """A published round; rows can be fetched from several threads."""

    def __init__(self, path: Path, file: int, header: Header, crcs: Tensor, digest: str) -> None:
        self.path, self.header, self.digest = path, header, digest
        self._file = file
        self._crcs = crcs
        self.close = weakref.finalize(self, os.close, file)

    @classmethod
    def open(cls, path: Path) -> RoundFile:
        """Open a file and verify all of it; `SupportFileError` names the file and what is off."""
        try:
            file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            raise SupportFileError(f"{path}: there is no such file") from None
        except OSError as error:
            raise SupportFileError(f"{path} cannot be read: {error.strerror}") from error
        try:
            return cls(path, file, *_verify(path, file))
        except BaseException:
            os.close(file)
            raise

    def fetch(
        self,
        indices: Tensor,  # (count,) int64, on the CPU
        *,
        pin: bool = False,
    ) -> Tensor:  # (count, bytes) uint8
        """Rows, each compared with its checksum; pinned ones a GPU can copy while it computes."""
        return _fetch(self.path, self._file, self.header, self._crcs, indices, pin)


def _fetch(
    path: Path, file: int, header: Header, known: Tensor, indices: Tensor, pin: bool = False
) -> Tensor:
    size, start = header.row, header.start
    rows = torch.empty(len(indices), size, dtype=torch.uint8, pin_memory=pin)
    data, crcs = _view(rows), _view(known).cast("q")
    for k, place in enumerate(indices.tolist()):
        row = data[k * size : (k + 1) * size]
        _read(path, file, row, start + place * size)
        if zlib.crc32(row) != crcs[place]:
            raise SupportFileError(
                f"{path}: the masks of row {place} are no longer what was written: is the disk failing, "
                "or does another process write there?"
            )
    return rows


def origin_of(path: Path) -> Origin | None:
    """What the masks in a file are of, by its header alone; None for what is no such file."""
    try:
        file = os.open(path, os.O_RDONLY)
        try:
            return _header(path, file)[0].origin
        finally:
            os.close(file)
    except (OSError, SupportFileError):
        return None


def _header(path: Path, file: int) -> tuple[Header, Tensor, bytes]:
    """Header and table of an open file, and the bytes that they were read from."""
    size = os.fstat(file).st_size
    head = bytearray(min(size, 32))
    _read(path, file, memoryview(head), 0)
    head = bytearray(min(size, header_bytes(head)))
    _read(path, file, memoryview(head), 0)
    try:
        header, table = decode(bytes(head))
    except SupportFileError as error:
        raise SupportFileError(
            f"{path} is not a store of supports, or is damaged: {error}"
        ) from None
    return header, table, bytes(head[: header.start])


def _verify(path: Path, file: int) -> tuple[Header, Tensor, str]:
    """Header, CRC of every row, and digest of an open file, after everything in it was compared."""
    header, table, head = _header(path, file)
    size = os.fstat(file).st_size
    if size != header.size:
        raise SupportFileError(
            f"{path} has {size:,} bytes where {header.size:,} belong: it is truncated, or something "
            "was added"
        )
    crcs = torch.zeros(header.examples, dtype=torch.int64)
    together = max(1, _CHUNK // max(1, header.row))
    data = bytearray(together * header.row)
    for first in range(0, header.examples, together):
        count = min(together, header.examples - first)
        piece = memoryview(data)[: count * header.row]
        _read(path, file, piece, header.start + first * header.row)
        crcs[first : first + count] = torch.tensor(
            [zlib.crc32(piece[k * header.row : (k + 1) * header.row]) for k in range(count)],
            dtype=torch.int64,
        )
    wrong = (table_of(crcs, header.block) != table).nonzero().view(-1)
    if len(wrong):
        block = int(wrong[0])
        low = block * header.block
        high = min(low + header.block, header.examples) - 1
        raise SupportFileError(
            f"{path} is damaged: block {block}, the masks of rows {low} to {high} (and {len(wrong) - 1} "
            "more blocks), does not match its checksum"
        )
    return header, crcs, _digest(head)


def _digest(head: bytes) -> str:
    """Identity of a file: its header holds checksums of everything else."""
    return hashlib.blake2b(head, digest_size=16).hexdigest()


def _reserve(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # pragma: no cover
        os.truncate(file, size)


def _view(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor in host memory, to be used while the tensor lives."""
    assert tensor.is_contiguous()
    assert tensor.device.type == "cpu"
    whole = (ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr())
    return memoryview(whole).cast("B")


def _bytes(tensor: Tensor) -> bytes:
    return bytes(_view(tensor))


def _stretches(places: list[int]) -> Iterator[tuple[int, int]]:
    """(first, count) of the stretches in which places follow one another."""
    first = 0
    for k in range(1, len(places) + 1):
        if k == len(places) or places[k] != places[k - 1] + 1:
            yield first, k - first
            first = k


def _write(file: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):  # a disk that fills up writes a part, and refuses the next
        done += os.pwrite(file, data[done : done + _CHUNK], offset + done)


def _read(path: Path, file: int, into: memoryview, offset: int) -> None:
    done = 0
    while done < len(into):
        try:
            count = os.preadv(file, [into[done:]], offset + done)
        except OSError as error:
            raise SupportFileError(f"{path} cannot be read: {error.strerror}") from error
        if count == 0:
            raise SupportFileError(f"{path} ends before its last row: it was cut short")
        done += count
