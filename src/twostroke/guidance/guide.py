"""`Guide`: what a teacher says of a set of images, one bit a unit, and its outputs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from .._amounts import size
from .._generators import generators_kept
from ..alternation import Phase
from ..alternation.fingerprint import model_fingerprint
from ..errors import (
    DataError,
    RunFolderError,
    SettingsError,
    SupportFileError,
    SupportMismatchError,
    TooLargeError,
)
from ..runs import read_tensors, save_tensors
from ..store.choose import free_space
from ..support import Site, Support, bits, recording
from ..training.listener import Listener, Progress
from .above import above
from .images import Seen, as_source
from .teacher import check_mode, check_preprocessing
from .told import Told

_FORMAT, _VERSION = "twostroke-guide", 2
# what a header raises that makes no sense
_SENSELESS = (
    ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError
)  # fmt: skip


class Guide:
    """Given supports of a set of images, with the teacher's outputs, and which images and views they are of.

    `rows` is (views · images, bytes) uint8: all images of view 0, then of view 1, and so on; a site takes
    ⌈units / 8⌉ bytes. `outputs` is (views · images, classes) float32, or None.
    `sites` are the teacher's, in full; of a site in `places` only those places are kept, the same ones
    for all channels and images: its mask is of (channels, places). `notes` are texts that go with it.

    A file of a guide is as confidential as the teacher's weights, which can be rebuilt from it.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        rows: Tensor,
        outputs: Tensor | None,
        *,
        images: Seen,
        teacher: str,
        views: int = 1,
        seed: int = 0,
        places: Mapping[str, Tensor] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self.notes = dict(notes or {})
        self.sites = tuple(sites)
        self.rows, self.outputs = rows, outputs
        self.images, self.teacher = images, teacher
        self.views, self.seed = views, seed
        self.places = dict(places or {})
        self.kept = tuple(_kept(site, self.places) for site in self.sites)
        width = sum(site.nbytes for site in self.kept)
        if rows.dtype != torch.uint8 or rows.shape != (views * images.count, width):
            raise SupportMismatchError(
                f"rows of {tuple(rows.shape)} {rows.dtype} do not fit {views} views of {images.count} images "
                f"of {width} bytes"
            )

        if outputs is not None and (outputs.ndim != 2 or len(outputs) != len(rows)):
            raise SupportMismatchError(
                f"outputs of {tuple(outputs.shape)} do not fit {len(rows)} rows of masks"
            )
        for site in self.sites:
            index = self.places.get(site.key)
            count = site.units // max(1, site.shape[0])
            if index is not None and not bool(((index >= 0) & (index < count)).all()):
                raise SupportMismatchError(f"places of {site.key} lie outside of its {count}")

    def __len__(self) -> int:
        return self.images.count

    def __repr__(self) -> str:
        outputs = "no outputs" if self.outputs is None else f"{self.outputs.shape[1]} outputs"
        return (
            f"<Guide of {len(self):,} images, {self.views} view{'s' * (self.views > 1)}, "
            f"{len(self.sites)} sites, {outputs}, {size(self.nbytes)}>"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of masks and outputs."""
        return self.rows.nbytes + (0 if self.outputs is None else self.outputs.nbytes)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Told:
        """What is told of some images, as view 0 shows them."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"image {index} of a guide of {len(self)} images")
            index = [index % len(self)]
        elif isinstance(index, slice):
            index = range(*index.indices(len(self)))
        return self.batch(torch.as_tensor(index, dtype=torch.int64))

    def batch(
        self,
        indices: Tensor,  # (batch,) integer
        view: int | Tensor = 0,  # one for all, or (batch,)
    ) -> Told:
        """What is told of these images; raises `SupportMismatchError` for an image or view it has not."""
        device = self.rows.device
        indices = indices.cpu().to(torch.int64)
        view = torch.as_tensor(view, dtype=torch.int64).cpu().expand(len(indices))
        for name, values, count in (("image", indices, len(self)), ("view", view, self.views)):
            bad = values[(values < 0) | (values >= count)]
            if len(bad):
                raise SupportMismatchError(
                    f"{name} {int(bad[0])} is not in this guide, which has {count:,} {name}s, from 0"
                    + ("" if name == "image" else ": record more by Guide.record(views=...)")
                )
        rows = (view * len(self) + indices).to(device, non_blocking=True)
        outputs = None if self.outputs is None else self.outputs[rows]
        return Told(Support(self.kept, self.rows[rows]), outputs, self.places)

    def to(self, device: torch.device | str) -> Guide:
        """The same on another device, which `batch` then answers from."""
        moved = copy.copy(self)
        moved.rows = self.rows.to(device)
        moved.outputs = None if self.outputs is None else self.outputs.to(device)
        moved.places = {key: index.to(device) for key, index in self.places.items()}
        return moved

    # -- making one --------------------------------------------------------------------------

    @classmethod
    @generators_kept()
    def record(
        cls,
        teacher: nn.Module,
        images: object,
        *,
        sites: Iterable[str] | None = None,
        outputs: bool = True,
        views: int = 1,
        places: int | None = None,
        batch_size: int = 256,
        seed: int = 0,
        listener: Listener | None = None,
    ) -> Guide:
        """Ask a teacher about images: a forward pass of each view of each.

        `images` are a source of examples, or a tensor (count, channels, height, width) that is preprocessed
        as the teacher wants it. `sites` names those to be recorded by key or path; None takes all. `views`
        are augmentation draws 0, 1, … of the source, by `seed`. `places` keeps so many places of each
        picture, drawn by `seed`, of all its channels.

        Raises `SettingsError` for a teacher in training mode, `DataError` for images that are clearly not
        preprocessed as the teacher's were, `SupportMismatchError` for a teacher without sites, and
        `TooLargeError` where memory does not suffice.
        """
        check_mode(teacher)
        _check(views=views, batch_size=batch_size, places=places)
        source, listener = as_source(images), listener or Listener()
        if views > 1 and getattr(source, "augmentation", None) is None:
            raise SettingsError(
                f"views={views} of images that are not augmented are all the same: views=1, or give the "
                "source an augmentation such as FlipShift()"
            )
        device = next((p.device for p in teacher.parameters()), torch.device("cpu"))
        seen = Seen.of(source, seed)
        some = torch.arange(min(16, len(source))) * len(source) // min(16, len(source))
        x = source.batch(some, view=0, seed=seed)[0].to(device)
        if (doubt := check_preprocessing(teacher, x)) is not None:
            listener.note(doubt)
        found, support = _ask(teacher, x)
        chosen = _chosen(support.sites, sites)
        drawn = {} if places is None else _draw(chosen, places, seed)
        if outputs and not (isinstance(found, Tensor) and found.ndim == 2):
            raise DataError(
                "the teacher's output is not (batch, classes): outputs=False records its supports alone"
            )
        count = views * len(source)
        kept = [_kept(site, drawn) for site in chosen]
        width = sum(site.nbytes for site in kept)
        classes = found.shape[1] if outputs else 0
        need, free = count * (width + 4 * classes), free_space(torch.device("cpu"), None).host
        if need > free // 2:
            raise TooLargeError(
                f"a guide of {count:,} images of {size(width)} takes {size(need)}, and {size(free)} of memory "
                "are free: record fewer images, fewer sites (sites=...), or some places (places=...)"
            )
        rows = torch.empty(count, width, dtype=torch.uint8)
        told = torch.empty(count, classes) if outputs else None
        steps = -(-len(source) // batch_size)
        for view in range(views):
            for step, part in enumerate(torch.arange(len(source)).split(batch_size)):
                x = source.batch(part, view=view, seed=seed)[0].to(device)
                found, support = _ask(teacher, x)
                at = slice(
                    view * len(source) + int(part[0]), view * len(source) + int(part[-1]) + 1
                )
                rows[at] = _packed(support, chosen, drawn)
                if told is not None:
                    told[at] = found.float().cpu()
                listener.step(Progress(view, views, step + 1, steps, Phase.RECORDING))
        known = model_fingerprint(teacher, values=True)
        options = {"images": seen, "teacher": known, "views": views, "seed": seed}
        return cls(chosen, rows, told, places=drawn, **options)  # type: ignore[arg-type]

    # -- what it belongs to ------------------------------------------------------------------

    def check(self, images: object) -> None:
        """Raise `SupportMismatchError` where these are not the images of the guide, preprocessed as then."""
        self.images.check(Seen.of(as_source(images), self.seed))

    def check_teacher(self, teacher: nn.Module) -> None:
        """Raise `SupportMismatchError` where the guide was recorded from other weights."""
        if model_fingerprint(teacher, values=True) != self.teacher:
            raise SupportMismatchError(
                "this guide was recorded from another teacher, or from other weights of it: record it again"
            )

    # -- files -------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write one file, replaced whole or not at all; `RunFolderError` where that fails."""
        tensors = {"rows": self.rows}
        if self.outputs is not None:
            tensors["outputs"] = self.outputs
        for i, site in enumerate(self.sites):
            if site.key in self.places:
                tensors[f"places.{i}"] = self.places[site.key]
        about = {
            "version": _VERSION,
            "sites": [site.to_json() for site in self.sites],
            "images": self.images.to_json(),
            "teacher": self.teacher,
            "views": self.views,
            "seed": self.seed,
            "notes": self.notes,
        }
        save_tensors(Path(path), tensors, {_FORMAT: json.dumps(about)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Guide:
        """Read what `save` wrote, memory-mapped; all of it is verified and nothing is unpickled.

        Raises `SupportFileError` for a file that is not there, damaged, or something else.
        """
        try:
            tensors, metadata = read_tensors(Path(path))
            about = json.loads(metadata[_FORMAT])
            if about["version"] != _VERSION:
                raise ValueError(f"its format is {about['version']!r}, and {_VERSION} is read here")
            sites = [Site.from_json(entry) for entry in about["sites"]]
            places = {
                site.key: tensors[f"places.{i}"]
                for i, site in enumerate(sites)
                if f"places.{i}" in tensors
            }
            return cls(
                sites,
                tensors["rows"],
                tensors.get("outputs"),
                images=Seen.from_json(about["images"]),
                teacher=str(about["teacher"]),
                views=int(about["views"]),
                seed=int(about["seed"]),
                places=places,
                notes={str(k): str(v) for k, v in about.get("notes", {}).items()},
            )
        except RunFolderError as error:
            raise SupportFileError(str(error)) from error
        except _SENSELESS as error:
            raise SupportFileError(f"{path} makes no sense as a guide: {error}") from error


@torch.no_grad()
def _ask(teacher: nn.Module, x: Tensor) -> tuple[Tensor, Support]:
    """Outputs and one-bit supports of a batch."""
    with recording(teacher, strict=False) as recorder:
        outputs = teacher(x)
    if not recorder.sites:
        raise SupportMismatchError(
            f"{type(teacher).__name__} has no ReLU, ReLU6 or other site to record: there is nothing to guide by"
        )
    return outputs, above(recorder.support)


def _packed(support: Support, chosen: Sequence[Site], drawn: Mapping[str, Tensor]) -> Tensor:
    """Rows of the chosen sites, of the drawn places where some are: (batch, bytes) on the CPU."""
    planes = []
    for site in chosen:
        (plane,) = support.planes(site)
        if site.key in drawn:
            mask = support[site].flatten(2)
            plane = bits.pack(mask.index_select(2, drawn[site.key].to(mask.device)))
        planes.append(plane)
    return torch.cat(planes, 1).cpu()


def _kept(site: Site, places: Mapping[str, Tensor]) -> Site:
    """The site as its mask is kept."""
    index = places.get(site.key)
    return site if index is None else replace(site, shape=(site.shape[0], len(index)))


def _draw(sites: Sequence[Site], places: int, seed: int) -> dict[str, Tensor]:
    """Places of every site whose picture has more than `places`, in order."""
    generator = torch.Generator().manual_seed(seed)
    counts = {site.key: site.units // site.shape[0] for site in sites if len(site.shape) > 1}
    return {
        key: torch.randperm(count, generator=generator)[:places].sort().values
        for key, count in counts.items()
        if count > places
    }


def _chosen(found: Sequence[Site], names: Iterable[str] | None) -> list[Site]:
    if names is None:
        return list(found)
    if isinstance(names, str):
        names = [names]
    names = list(names)
    known = ", ".join(site.key for site in found)
    for name in names:
        if not any(name in (site.key, site.path) for site in found):
            raise SettingsError(f"the teacher has no site {name!r}; it has {known}")
    chosen = [site for site in found if site.key in names or site.path in names]
    if not chosen:
        raise SettingsError(f"no sites are chosen: sites=None takes all, which are {known}")
    return chosen


def _check(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or count < 1):
            raise SettingsError(f"{name} must be a whole number of at least 1, not {count!r}")
