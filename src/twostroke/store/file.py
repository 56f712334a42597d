"""Supports in a file: a folder in which each round is one file, a row an example."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._ahead import ReadAhead
from .._files import sweep_partials
from ..errors import StoreError, SupportFileError, SupportMismatchError
from ..support import Support
from .base import Place, Store, check_fits, check_written
from .layout import Header
from .rounds import RoundFile, RoundWriter, origin_of

_NAME = "support-{}.store"


def _number(path: Path) -> int:
    """The round of a file, by its name."""
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


class FileStore(Store):
    """Packed rows on disk, `support-N.store` for round N; memory holds the batches under way alone.

    A stroke writes beside, and its file takes its name when it is whole, so that there is a whole
    round whatever happens. The round before is then deleted, unless a checkpoint may still refer to it
    (`reference`, `settle`). Without a `place.folder` a temporary one is made, which goes with the store.

    `place.origin` says what the masks are of; a file that tells of another origin is refused.

    Raises `StoreError` where a file cannot be written, `SupportFileError` where one cannot be read
    or is not what was written.
    """

    def __init__(self, place: Place) -> None:
        self.sites = place.sites
        folder = place.folder
        self._blank = Header(self.sites, place.examples, place.origin)
        self._temporary = None
        try:
            if folder is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="twostroke-")
                folder = Path(self._temporary.name)
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            where = folder or f"a folder in {tempfile.gettempdir()}"
            raise StoreError(f"{where} cannot be made: {error.strerror}") from error
        self.folder = folder
        sweep_partials(folder, _NAME.format("*") + ".*")
        self._writer: RoundWriter | None = None
        self._writing: Future[None] | None = None
        self._round: RoundFile | None = None
        self._own: set[Path] = set()  # what may be deleted; other runs' files may not
        self._referred: list[Path] = []
        self._pin = False
        # one thread for both, so that what is read after a write is what was written
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="twostroke-store")
        self._ahead = ReadAhead(self._fetch, self._thread)

    def __len__(self) -> int:
        return self._blank.examples

    def check_vacant(self) -> None:
        """Raise `StoreError` where the folder holds rounds that this store did not write."""
        strangers = sorted(set(self.folder.glob(_NAME.format("*"))) - self._own)
        if strangers:
            raise StoreError(
                f"{strangers[0]} is of another run, or of one that this one does not resume: choose "
                "another folder, resume that run, or delete the file"
            )

    # -- support stroke ----------------------------------------------------------------------

    def begin(self, round_: int, view: int) -> None:
        """A support stroke begins; what was published before can be read until the next `publish`."""
        self._abandon()
        self.check_vacant()
        header = replace(self._blank, round=round_, view=view)
        self._writer = RoundWriter(self.folder / _NAME.format(round_), header)

    def write(self, indices: Tensor, support: Support) -> None:
        """Keep `support`, whose examples have these indices, (examples,) int64.

        A thread writes while the next are recorded; what it raises is raised by the next call.
        """
        check_fits(self.sites, indices, support)
        if self._writer is None:
            raise SupportMismatchError("no support stroke is under way: call begin first")
        # copies, because the caller may change his before they are written
        here, rows = (t.to("cpu", copy=True).contiguous() for t in (indices, support.rows))
        self._written()
        self._writing = self._thread.submit(self._writer.write, here, rows)

    def _written(self) -> None:
        """Wait until everything is written that was given to the thread."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def publish(self) -> None:
        """The stroke is over: its file takes its place, and the round before may go."""
        if self._writer is None:
            raise SupportMismatchError("no support stroke is under way: call begin first")
        self._written()
        self._ahead.forget()
        check_written((self._writer.crcs < 0).nonzero().view(-1))
        before, self._round = self._round, self._writer.publish()
        self._writer = None
        self._own.add(self._round.path)
        if before is not None:
            before.close()
        self._clean()

    def _abandon(self) -> None:
        if self._writing is not None:
            wait([self._writing])
            self._writing = None
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    # -- weight stroke -----------------------------------------------------------------------

    def read(self, indices: Tensor, device: torch.device | str) -> Support:
        """Support of the examples of these indices, on a device; each row is verified."""
        here = indices.cpu()
        self._pin = torch.device(device).type == "cuda"
        rows = self._ahead.take(here)
        if rows is None:
            rows = self._fetch(here)
        return Support(self.sites, rows.to(device, non_blocking=True))

    def _fetch(self, indices: Tensor) -> Tensor:
        if self._round is None:
            raise SupportMismatchError("no support was stored: no support stroke was published")
        return self._round.fetch(indices, pin=self._pin)

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Read these batches ahead, in a thread, while the steps before them run."""
        if self._round is not None:
            self._ahead.expect(batches)

    # -- checkpoints -------------------------------------------------------------------------

    def reference(self) -> dict[str, Any] | None:
        """Name, round and digest of the round's file; None where the folder is a temporary one."""
        if self._temporary is not None or self._round is None:
            return None
        self._referred.append(self._round.path)
        return {
            "file": self._round.path.name,
            "round": self._round.header.round,
            "digest": self._round.digest,
        }

    def settle(self) -> None:
        """The last reference is safe: the files of all other rounds go."""
        self._referred = self._referred[-1:]
        self._clean()

    def reopen(self, reference: Mapping[str, Any] | None) -> None:
        """Go on with the round that a checkpoint refers to, None where it was before the first one.

        This run's later rounds are deleted: what was done after the checkpoint is done again.
        """
        found = None
        if reference is not None:
            name = str(reference["file"])
            if Path(name).name != name:
                raise SupportFileError(f"{name!r} is not the name of a store's file")
            found = RoundFile.open(self.folder / name)
            try:
                self._check(found, str(reference["digest"]))
            except SupportFileError:
                found.close()
                raise
        self._abandon()
        self._ahead.forget()
        rounds = self.folder.glob(_NAME.format("*"))
        self._own = {path for path in rounds if origin_of(path) == self._blank.origin}
        # earlier ones may be those of a checkpoint before this one: they stay until the next
        earlier = [path for path in self._own if found and _number(path) < _number(found.path)]
        self._round, self._referred = found, [*earlier, found.path] if found else []
        self._clean()

    def discard(self) -> None:
        """Delete this run's rounds, and the folder where it is empty then."""
        self.reopen(None)
        with contextlib.suppress(OSError):  # there is something else in it
            self.folder.rmdir()

    def _check(self, found: RoundFile, digest: str) -> None:
        here, there = self._blank, found.header
        for what, same in (
            ("another model", here.origin.model == there.origin.model),
            ("another model or images of another size", here.sites == there.sites),
            ("another data set", here.origin.data == there.origin.data),
            (f"{there.examples} examples, not {here.examples}", here.examples == there.examples),
            (f"seed {there.origin.seed}, not {here.origin.seed}", here.origin == there.origin),
        ):
            if not same:
                raise SupportFileError(f"{found.path} holds the supports of {what}")
        if found.digest != digest:
            raise SupportFileError(
                f"{found.path} holds round {there.round}, but not the masks that the checkpoint refers "
                "to: it was written by another run, or after the checkpoint"
            )

    def _clean(self) -> None:
        keep = {*self._referred, *([self._round.path] if self._round else [])}
        for path in self._own - keep:
            path.unlink(missing_ok=True)
        self._own &= keep

    def close(self) -> None:
        """Give back files and the thread; rounds that no checkpoint refers to are deleted."""
        self._ahead.forget()
        self._abandon()
        self._thread.shutdown()
        if self._round is not None:
            self._round.close()
            self._round = None
        if self._temporary is not None:
            self._temporary.cleanup()
        else:
            self._clean()
