"""An epoch under way: what a checkpoint within it keeps beside what it keeps after one."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..processes import Processes


@dataclass
class Part:
    """Steps of an epoch that were taken, and what the rest of it needs.

    phase, round: with which it began. held_steps: of those taken, under held masks. seconds: of training, so
    far. mean: of its loss, once every step was taken. note: for its record. sums: (processes, 2) float64, each
    process's loss so far, and the examples that its support strokes visited. generators: states of each
    process's, (processes, numbers) int64.
    """

    phase: str
    round: int
    step: int = 0
    held_steps: int = 0
    seconds: float = 0.0
    mean: float | None = None
    note: str = ""
    sums: Tensor | None = None
    generators: dict[str, Tensor] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Everything, by name."""
        return asdict(self)

    def collect(
        self, loss: Tensor, visits: int, device: torch.device, processes: Processes
    ) -> None:
        """Take up what differs from process to process; all of them call this at the same step."""
        own = torch.stack([loss.detach().double().cpu(), torch.tensor(float(visits))])
        self.sums = _rows(own, processes)
        self.generators = {k: _rows(v, processes) for k, v in _states(device).items()}

    def give(self, device: torch.device, processes: Processes) -> tuple[Tensor, int]:
        """This process's loss so far and visits; its generators are put back.

        Where the number of processes has changed, the main one gets the sums, and generators stay.
        """
        assert self.sums is not None
        same = len(self.sums) == processes.count
        mine = self.sums[processes.index] if same else self.sums.sum(0) * processes.main
        if same:
            _give({k: rows[processes.index] for k, rows in self.generators.items()}, device)
        return mine[0].float().to(device), int(mine[1])


def _states(device: torch.device) -> dict[str, Tensor]:
    """States of the generators of PyTorch, NumPy and Python, in whole numbers."""
    ours, theirs = random.getstate(), np.random.get_state(legacy=False)
    states = {
        "cpu": torch.get_rng_state().long(),
        "python": torch.tensor([*ours[1], ours[2] is not None, _bits(ours[2] or 0.0)]),
        "numpy": torch.tensor(
            [
                *theirs["state"]["key"].tolist(),
                theirs["state"]["pos"],
                theirs["has_gauss"],
                _bits(theirs["gauss"]),
            ]
        ),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device).long()
    return states


def _give(states: dict[str, Tensor], device: torch.device) -> None:
    """Undo `_states`; a device that was not there then keeps its own."""
    torch.set_rng_state(states["cpu"].byte())
    *ours, normal, bits = states["python"].tolist()
    random.setstate((3, tuple(ours), _float(bits) if normal else None))
    *key, place, normal, bits = states["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(key, np.uint32), place, normal, _float(bits)))
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].byte(), device)


def _bits(number: float) -> int:
    return int(torch.tensor(number, dtype=torch.float64).view(torch.int64))


def _float(bits: int) -> float:
    return float(torch.tensor(bits).view(torch.float64))


def _rows(own: Tensor, processes: Processes) -> Tensor:
    every = own.new_zeros(processes.count, len(own))
    every[processes.index] = own
    return processes.sum(every)
