"""How far apart supports are: Hamming distances, neighbours, and which examples share a pattern.

A distance is the number of units that are on another piece, as `Support.drift` counts them. All is computed
from packed bits: by `kernels` on a CPU, elsewhere as a matrix product of signs, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SettingsError, SupportMismatchError
from ..support import Site, Support, bits
from ..support.support import first_difference
from . import kernels


class Neighbours(NamedTuple):
    """The nearest examples of each query, nearest first; of equally near ones the first."""

    distances: Tensor  # (queries, k) int32, units
    indices: Tensor  # (queries, k) int64


@dataclass(frozen=True)
class Patterns:
    """Different patterns, numbered in the order in which examples first show them."""

    count: int
    group: Tensor  # (examples,) int64: the number of each example's pattern
    sizes: Tensor  # (count,) int64: how many examples share it


def hamming(a: Support, b: Support | None = None, *, site: str | Site | None = None) -> Tensor:
    """Units that differ between every example of `a` and every one of `b`: (len(a), len(b)) int32.

    Without `b`, between those of `a`. `site` names one site; None takes all. The result alone takes
    4 bytes a pair; beside it, memory stays bounded.

    Raises `SupportMismatchError` for supports of other sites, or one that a whole batch shares.
    """
    b = a if b is None else b
    out = torch.zeros(len(a), len(b), dtype=torch.int32, device=a.device)
    for part, block in _blocks(a, b, site):
        out[part] = block
    return out


def neighbours(
    support: Support, query: Support | None = None, *, k: int = 10, site: str | Site | None = None
) -> Neighbours:
    """The `k` examples of `support` that are nearest to each of `query`; exact, memory bounded.

    Without `query` each example of `support` is asked about, and is not its own neighbour.

    Raises `SettingsError` for a `k` that is out of range, and what `hamming` raises.
    """
    refuse_shared(support)
    alone = query is None
    query = support if query is None else query
    most = len(support) - alone
    if not 1 <= k <= most:
        raise SettingsError(f"k is a number of neighbours, 1 to {most} here, not {k}")
    found = []
    for part, block in _blocks(query, support, site):
        if alone:  # behind all others
            own = torch.arange(len(query), device=block.device)[part]
            block[own - own[0], own] = torch.iinfo(torch.int32).max
        # distance and place in one number, so that of equals the first is taken
        place = torch.arange(len(support), device=block.device)
        key = (block.long() << 32) + place
        found.append(key.topk(k, largest=False).values)
    keys = torch.cat(found) if found else torch.empty(0, k, dtype=torch.int64)
    return Neighbours((keys >> 32).int(), keys & 0xFFFFFFFF)


def unique(support: Support, *, site: str | Site | None = None) -> Patterns:
    """Which examples share one pattern, at a site or at all of them."""
    refuse_shared(support)
    rows = support.rows if site is None else support.restrict([site]).rows
    numbers: dict[bytes, int] = {}
    group = [numbers.setdefault(row.tobytes(), len(numbers)) for row in rows.cpu().numpy()]
    groups = torch.tensor(group, dtype=torch.int64)
    return Patterns(len(numbers), groups, groups.bincount(minlength=len(numbers)))


def reference_hamming(a: Support, b: Support) -> Tensor:
    """`hamming`, unpacked, one pair at a time."""
    pieces = [(a.pieces(s).flatten(1), b.pieces(s).flatten(1)) for s in a.sites]
    rows = [
        [sum(int((x[i] != y[j]).sum()) for x, y in pieces) for j in range(len(b))]
        for i in range(len(a))
    ]
    return torch.tensor(rows, dtype=torch.int32).view(len(a), len(b))


def pairs(
    a: Tensor,  # (planes, rows, words) int64
    b: Tensor,  # (planes, others, words) int64
    out: Tensor,  # (rows, others) int32
) -> None:
    """Add the number of units that differ to `out`."""
    if a.device.type == "cpu" and kernels.compiled() is not None:
        return kernels.add_pairs(a, b, out)
    for start in range(0, b.shape[1], _rows(b)):
        part = slice(start, start + _rows(b))
        out[:, part] += _by_product(a, b[:, part]) if len(a) == 1 else _by_pieces(a, b[:, part])
    return None


def words(packed: Tensor) -> Tensor:
    """Bytes as int64, the last dimension filled up with zeros."""
    return F.pad(packed, (0, -packed.shape[-1] % 8)).contiguous().view(torch.int64)


def _blocks(a: Support, b: Support, site: str | Site | None) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the distances, a block at a time: (rows, len(b)) int32."""
    for support in (a, b):
        refuse_shared(support)
    if a.sites != b.sites:
        raise SupportMismatchError(f"supports differ: {first_difference(a, b)}")
    ours, theirs = _planes(a, site), _planes(b.to(a.device), site)
    rows = _rows(a.rows)
    for start in range(0, len(a), rows):
        part = slice(start, min(start + rows, len(a)))
        block = torch.zeros(part.stop - start, len(b), dtype=torch.int32, device=a.device)
        for x, y in zip(ours, theirs, strict=True):
            pairs(x[:, part], y, block)
        yield part, block


def _planes(support: Support, site: str | Site | None) -> list[Tensor]:
    """Words of sites of one, two, ... planes, side by side: (planes, examples, words) each."""
    if site is not None:
        return [words(support.planes(support.site(site)))]
    kinds: dict[int, list[Tensor]] = {}
    for one in support.sites:
        kinds.setdefault(one.planes, []).append(support.planes(one))
    return [words(torch.cat(planes, 2)) for planes in kinds.values()]


def _rows(t: Tensor) -> int:
    return 512 if t.device.type == "cpu" else 4096


def _by_product(a: Tensor, b: Tensor) -> Tensor:
    """Signs that differ are (places - a · b) / 2; spare bits are alike. Exact, as sums are below 2²⁴."""
    kind = torch.float16 if a.is_cuda else torch.float32
    x, y = (bits.unpack(t[0].view(torch.uint8), (64 * t.shape[2],), kind) * 2 - 1 for t in (a, b))
    product = torch.mm(x, y.T, out_dtype=torch.float32) if a.is_cuda else x @ y.T
    return ((x.shape[1] - product) / 2).int()


def _by_pieces(a: Tensor, b: Tensor) -> Tensor:
    def pieces(t: Tensor) -> Tensor:
        planes = [bits.unpack(p.view(torch.uint8), (64 * t.shape[2],), torch.float32) for p in t]
        return sum((plane * 2**k for k, plane in enumerate(planes)), torch.zeros_like(planes[0]))

    return torch.cdist(pieces(a), pieces(b), p=0).int()


def refuse_shared(support: Support) -> None:
    """Raise `SupportMismatchError` for a support of no single example."""
    if support.shared:
        raise SupportMismatchError(
            "this support has one mask that a whole batch shares, and is of no example: record it without "
            "a rule, or by a rule that gives each example its own"
        )
