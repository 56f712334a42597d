"""An epoch under way: what a checkpoint within it keeps beside what it keeps after one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..processes import Processes


@dataclass
class Part:
    """Steps of an epoch that were taken, and what the rest of it needs.

    phase, round: with which it began. seconds: of training, so far. mean: of its loss, once every step was
    taken. note: for its record. sums: (processes, 2) float64, each process's loss so far, and the examples
    that its support strokes visited. generators: PyTorch's of each process, (processes, bytes) uint8.
    """

    phase: str
    round: int
    step: int = 0
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
        states = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        self.generators = {k: _rows(v.int(), processes).byte() for k, v in states.items()}

    def give(self, device: torch.device, processes: Processes) -> tuple[Tensor, int]:
        """This process's loss so far and visits; its generators are put back.

        Where the number of processes has changed, the main one gets the sums, and generators stay.
        """
        assert self.sums is not None
        same = len(self.sums) == processes.count
        mine = self.sums[processes.index] if same else self.sums.sum(0) * processes.main
        if same and "cpu" in self.generators:
            torch.set_rng_state(self.generators["cpu"][processes.index].clone())
        if same and "cuda" in self.generators and device.type == "cuda":
            torch.cuda.set_rng_state(self.generators["cuda"][processes.index].clone(), device)
        return mine[0].float().to(device), int(mine[1])


def _rows(own: Tensor, processes: Processes) -> Tensor:
    every = own.new_zeros(processes.count, len(own))
    every[processes.index] = own
    return processes.sum(every)
