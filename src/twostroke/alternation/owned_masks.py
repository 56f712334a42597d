"""The stored masks of a run, of which each process keeps those of its own examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import SettingsError
from ..processes import Processes
from ..store import Kind, MakeStore, Origin, Place, Store, make_store
from ..support import Site, Support


class OwnedMasks:
    """This process's store, addressed by examples (`Processes` says which are its own).

    A file lies in `folder`, or in one for each process below it where there are several, so that a run
    may be resumed by another number of processes: each then reads its examples from all files.
    `note` receives what is worth telling.
    """

    def __init__(
        self,
        kind: Kind | MakeStore,
        folder: Path | None,
        sites: Sequence[Site],
        examples: int,
        processes: Processes,
        device: torch.device,
        origin: Origin,
        note: Callable[[str], None],
    ) -> None:
        self.examples, self.processes, self.device = examples, processes, device
        self._folder, self._kind, self._note = folder, kind, note
        self._place = Place(
            tuple(sites),
            len(processes.owned(examples)),
            device,
            self._own_folder(processes.index, processes.count),
            origin,
            here=processes.here,
        )
        self.store = make_store(kind, self._place)
        note(f"masks are kept in {self.store.where}")
        # stores of another number of processes, until the next checkpoint
        self._left: list[Store] = []

    def check_vacant(self) -> None:
        """Raise `StoreError` if files of another run are where this one's are to go."""
        self.store.check_vacant()

    def write(self, indices: Tensor, support: Support) -> None:
        """Keep the masks of these examples, which are this process's own, in the round under way."""
        self.store.write(self.processes.row(indices), support)

    def read(self, indices: Tensor) -> Support:
        """Masks of these examples, which are this process's own, on the device."""
        return self.store.read(self.processes.row(indices), self.device)

    def whole(self) -> Support:
        """All masks that this process keeps, in host memory."""
        return self.store.read(torch.arange(len(self.store)), "cpu")

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Masks of these batches are read ahead, where they come from a file."""
        self.store.expect(self.processes.row(indices) for indices in batches)

    # -- checkpoints -------------------------------------------------------------------------

    def references(self) -> list[dict[str, Any]] | None:
        """What a checkpoint says of the files of all processes; None where any has its masks in memory."""
        reference = self.store.reference()
        digests = self.processes.each(reference["digest"] if reference else "")
        if reference is None or not all(digests):
            return None
        return [reference | {"digest": digest} for digest in digests]

    def restore(
        self,
        round_: int,
        view: int,
        references: Sequence[Mapping[str, Any]],  # of each process's file
        support: Support | None,
    ) -> None:
        """Take up a round, whichever kind of store and number of processes it was kept by."""
        same = len(references) == self.processes.count
        self.store.reopen(references[self.processes.index] if same else None)
        if round_ == 0 or (same and self.store.reference() is not None):
            return
        self.store.begin(round_, view)
        if references:
            self._share_out(references)
        elif support is not None:
            self.store.write(torch.arange(len(self.store)), support)
        else:
            raise SettingsError("there are no masks to go on with in what state() gave")
        self.store.publish()

    def _share_out(self, references: Sequence[Mapping[str, Any]]) -> None:
        """Copy this process's rows from the files of every process that there was."""
        count = len(references)
        maker: Kind | MakeStore = "file" if isinstance(self._kind, str) else self._kind
        for index, reference in enumerate(references):
            folder = self._own_folder(index, count)
            if folder is None:
                raise SettingsError(
                    f"the masks are in {reference['file']}: say in which folder it is (store_path=...)"
                )
            examples = torch.arange(index, self.examples, count)  # see `Processes`
            place = replace(self._place, examples=len(examples), folder=folder, here=1)
            left = make_store(maker, place)
            self._left.append(left)
            left.reopen(reference)
            mine = examples % self.processes.count == self.processes.index
            for rows in mine.nonzero().view(-1).split(256):
                self.write(examples[rows], left.read(rows, "cpu"))
        if count != self.processes.count:
            self._note(
                f"the stored supports of {count} process{'es' * (count > 1)} were shared out to "
                f"{self.processes.count}; none was estimated again"
            )

    def _own_folder(self, index: int, count: int) -> Path | None:
        """Where process `index` of `count` keeps its file; None is a temporary folder of its own."""
        if self._folder is None or count == 1:
            return self._folder
        return self._folder / f"process-{index + 1}-of-{count}"

    def settle(self) -> None:
        """A checkpoint is written: files of rounds that only earlier ones refer to are deleted."""
        self.store.settle()
        for left in self._left:
            if self.processes.main:
                left.discard()
            left.close()
        self._left = []

    def close(self) -> None:
        """Give back files and threads; what no checkpoint refers to is deleted."""
        self.store.close()
        for left in self._left:
            left.close()
