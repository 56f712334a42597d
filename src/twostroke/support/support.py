"""`Support`: the binary masks of all sites for a set of examples, packed eight units a byte."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from .._files import replacing
from ..errors import SupportFileError, SupportMismatchError
from . import bits
from .sites import BySite, Site, row_bytes, site_of

_FORMAT = "twostroke-support"
_VERSION = 2  # 2: with a checksum


class Share(float):
    """A share of units (0 to 1), with the share at each site in `by_site`, by site, key or path.

    `counts` of `units` at each site are what it was made from.
    """

    by_site: BySite[float]
    counts: Mapping[Site, int]
    units: Mapping[Site, int]

    @classmethod
    def of(cls, counts: Mapping[Site, int], units: Mapping[Site, int]) -> Share:
        """Overall and per-site shares of `counts` in `units`; a share of nothing is 0."""
        total = sum(units.values())
        share = cls(sum(counts.values()) / total if total else 0.0)
        share.by_site = BySite((s, n / units[s] if units[s] else 0.0) for s, n in counts.items())
        share.counts, share.units = counts, units
        return share


class Support:
    """Binary masks of all `sites` for a set of examples (the paper's multi-layer support m(1..L)).

    `rows` is (examples, bytes) uint8: one example a row, its sites one after another, each of
    ⌈units / 8⌉ bytes a plane. A support that is `shared` has a single row, which serves every example
    of any batch.

    Indexing by a site, a key (`"layer1.0.relu#1"`) or a path that has one site gives the bool mask,
    shape (examples, *site.shape); by an integer, a slice or an index tensor, the support of those
    examples.
    """

    __slots__ = ("_known_places", "rows", "shared", "sites")

    def __init__(self, sites: Sequence[Site], rows: Tensor, *, shared: bool = False) -> None:
        self.sites = tuple(sites)
        self.rows = rows
        self.shared = shared
        self._known_places: dict[str, slice] = {}  # made when they are asked for
        width = row_bytes(self.sites)
        if rows.dtype != torch.uint8 or rows.ndim != 2 or rows.shape[1] != width:
            raise SupportMismatchError(
                f"rows of {tuple(rows.shape)} {rows.dtype} do not fit sites of {width} bytes"
            )
        if shared and len(rows) != 1:
            raise SupportMismatchError(f"a shared support has one row, not {len(rows)}")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def _places(self) -> dict[str, slice]:
        """Where the bytes of each site lie in a row, by the site's key."""
        if not self._known_places:
            ends = list(accumulate((site.nbytes for site in self.sites), initial=0))
            self._known_places = {s.key: slice(*ends[i : i + 2]) for i, s in enumerate(self.sites)}
        return self._known_places

    @property
    def nbytes(self) -> int:
        """Bytes that the masks take."""
        return self.rows.numel()

    @property
    def device(self) -> torch.device:
        """Where the masks live."""
        return self.rows.device

    def __repr__(self) -> str:
        whose = "shared by a batch" if self.shared else f"of {len(self)} examples"
        return f"<Support {whose}, {len(self.sites)} sites, {self.nbytes} bytes>"

    def site(self, key: str | Site) -> Site:
        """The site of that key or path; raises `KeyError`, with the known ones, for another."""
        return site_of(self.sites, key)

    def planes(self, site: Site) -> Tensor:
        """Packed bits of one site: (planes, examples, bytes) uint8, a view."""
        place = self.rows[:, self._places[site.key]]
        size = bits.packed_bytes(site.units)
        return place.view(len(place), site.planes, size).transpose(0, 1)

    def all_planes(self) -> list[list[Tensor]]:
        """`planes` of every site, in order: views, for all sites in one operation."""
        parts = self.rows.split([site.nbytes for site in self.sites], dim=1)
        return [
            [part] if site.planes == 1 else list(part.chunk(site.planes, dim=1))
            for site, part in zip(self.sites, parts, strict=True)
        ]

    def pieces(self, key: str | Site) -> Tensor:
        """Which piece each unit is on: (examples, *site.shape) int64.

        0 off and 1 on; for a clamp 0 low, 1 linear, 2 high; for max pooling the index of the
        maximum in the flattened input plane.
        """
        site = self.site(key)
        masks = [bits.unpack(plane, site.shape, torch.int64) for plane in self.planes(site)]
        return sum((mask << k for k, mask in enumerate(masks)), start=torch.zeros_like(masks[0]))

    @overload
    def __getitem__(self, key: str | Site) -> Tensor: ...
    @overload
    def __getitem__(self, key: int | slice | Tensor | list[int]) -> Support: ...

    def __getitem__(self, key: str | Site | int | slice | Tensor | list[int]) -> Tensor | Support:
        if isinstance(key, str | Site):
            site = self.site(key)
            return bits.unpack(self.planes(site)[0], site.shape)
        if isinstance(key, int):
            if not -len(self) <= key < len(self):
                raise IndexError(f"example {key} of a support of {len(self)} examples")
            key = [key]
        if isinstance(key, list):
            key = torch.tensor(key, dtype=torch.int64)
        if isinstance(key, Tensor):
            key = key.to(self.device)
        rows = self.rows[key]
        if rows.ndim == 1:  # an integer of numpy, or a tensor of one
            rows = rows[None]
        return Support(self.sites, rows, shared=self.shared and len(rows) == 1)

    def __iter__(self) -> Iterator[Support]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Support)
            and self.sites == other.sites
            and self.shared == other.shared
            and torch.equal(self.rows, other.rows.to(self.device))
        )

    __hash__ = None  # type: ignore[assignment]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Support:
        """The same support on another device."""
        rows = self.rows.to(device, non_blocking=non_blocking)
        return Support(self.sites, rows, shared=self.shared)

    def restrict(self, keys: Iterable[str | Site]) -> Support:
        """The part of some sites, to be held with `strict=False`; the others then stay live."""
        chosen = {self.site(key) for key in keys}
        sites = [site for site in self.sites if site in chosen]
        parts = [self.rows[:, self._places[site.key]] for site in sites]
        rows = torch.cat(parts, 1) if parts else self.rows[:, :0]
        return Support(sites, rows, shared=self.shared)

    @classmethod
    def cat(cls, supports: Sequence[Support]) -> Support:
        """The examples of several supports in turn; all of the same sites, none of them shared."""
        if not supports:
            raise SupportMismatchError("there is no support to concatenate")
        first = supports[0]
        for other in supports:
            if other.sites != first.sites:
                raise SupportMismatchError(f"supports differ: {first_difference(first, other)}")
            if other.shared:
                raise SupportMismatchError("a support shared by a batch has no examples to add")
        return cls(first.sites, torch.cat([s.rows for s in supports]))

    def density(self) -> Share:
        """Share of units that are on, overall and by site; max pooling does not count."""
        sites = [s for s in self.sites if s.kind != "max_pool"]
        counts = {s: bits.count(self.planes(s)[0]) for s in sites}
        return Share.of(counts, {s: s.units * len(self) for s in sites})

    def drift(self, other: Support) -> Share:
        """Share of units whose mask differs from `other`'s, overall and by site.

        A shared support is compared with every example of the other. Raises `SupportMismatchError`
        where the two are not of the same sites and number of examples.
        """
        counts = {site: bits.count(packed) for site, packed in self.differing(other).items()}
        examples = max(len(self), len(other))
        return Share.of(counts, {s: s.units * examples for s in self.sites})

    def differing(self, other: Support) -> dict[Site, Tensor]:
        """Packed bits of the units that are on another piece: (examples, bytes) for each site."""
        if self.sites != other.sites:
            raise SupportMismatchError(f"supports differ: {first_difference(self, other)}")
        if len(self) != len(other) and not (self.shared or other.shared):
            raise SupportMismatchError(
                f"supports of {len(self)} and of {len(other)} examples have no drift: "
                "compare the same examples"
            )
        xor = Support(self.sites, self.rows ^ other.rows.to(self.device))
        differing = {}
        for site in self.sites:
            planes = xor.planes(site)
            differs = planes[0]
            for plane in planes[1:]:
                differs = differs | plane
            differing[site] = differs
        return differing

    def save(self, path: str | PathLike[str]) -> None:
        """Write to a safetensors file. A file that is there is replaced, whole or not at all."""
        from safetensors.torch import save_file

        rows = self.rows.contiguous().cpu()
        about = self.metadata(len(rows), zlib.crc32(rows.numpy().data))
        with replacing(Path(path)) as partial:
            save_file({"rows": rows}, partial, metadata=about)

    def metadata(self, examples: int, crc: int) -> dict[str, str]:
        """What a safetensors file of these sites says of itself: of so many rows, which have this CRC-32."""
        header = {"version": _VERSION, "shared": self.shared}
        text = json.dumps(header | {"sites": [site.to_json() for site in self.sites]})
        return {_FORMAT: text, "checksum": _checksum(text, (examples, self.rows.shape[1]), crc)}

    @classmethod
    def load(cls, path: str | PathLike[str], *, device: torch.device | str = "cpu") -> Support:
        """Read what `save` wrote; nothing is unpickled.

        Raises `SupportFileError` for any other file, and for one in which a bit was altered.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                header = json.loads(about[_FORMAT])
                if header["version"] != _VERSION:
                    raise SupportFileError(
                        f"{path}: support format {header['version']!r}, this version of twostroke "
                        f"reads {_VERSION}"
                    )
                rows = file.get_tensor("rows")
            if about["checksum"] != _checksum(
                about[_FORMAT], rows.shape, zlib.crc32(rows.numpy().data)
            ):
                raise SupportFileError(f"{path} is damaged: it does not match its checksum")
            sites = [Site.from_json(entry) for entry in header["sites"]]
            return cls(sites, rows.to(device), shared=bool(header["shared"]))
        except FileNotFoundError:
            raise SupportFileError(f"{path}: there is no such file") from None
        except SupportFileError:
            raise
        except (
            SafetensorError,
            OSError,
            LookupError,
            TypeError,
            ValueError,
            RecursionError,
        ) as error:
            raise SupportFileError(
                f"{path} is not a support that Support.save wrote, or is damaged: {error}"
            ) from error


def _checksum(header: str, shape: Sequence[int], crc: int) -> str:
    """CRC-32 of rows, their shape and the header, always of ten digits."""
    return f"{zlib.crc32(f'{tuple(shape)} {header}'.encode(), crc):010d}"


def first_difference(a: Support, b: Support) -> str:
    """The first site in which two supports differ, in words."""
    for one, two in zip(a.sites, b.sites, strict=False):
        if one != two:
            return f"{one.key} {one.kind} {one.shape} against {two.key} {two.kind} {two.shape}"
    return f"{len(a.sites)} sites against {len(b.sites)}"
