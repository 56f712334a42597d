"""What instance-wise alternation will take on a real machine, from the model's own sites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import SettingsError
from ..store import Free, choose_store
from ..support import Site
from .order import Order, epoch_order

GIGA = 10**9
SAMPLE = 400_000  # examples whose batches the mean of the largest share is taken over


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is assumed of a machine; memory in GB, rates in GB/s, 1 GB = 10⁹ bytes.

    device_memory: of each process's device; half of it may hold supports.
    host_memory: of a machine, shared by its processes; half of it may hold supports.
    link: host memory to one device (PCIe).
    disk: of a machine, random reads of whole rows, shared by its processes.
    tflops: what a device keeps up in training, in 10¹² operations a second.
    """

    processes: int = 8
    device_memory: float = 80.0
    host_memory: float = 512.0
    link: float = 20.0
    disk: float = 2.0
    tflops: float = 50.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise SettingsError(f"{name.replace('_', '-')} must be above 0, not {value}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Bytes, passes and seconds of a run; see `make_plan`."""

    row: int
    examples: int
    processes: int
    batch_size: int
    strokes: int
    most_strokes: int
    epochs: int
    flops: int
    largest_share: float
    machine: Machine

    @property
    def bytes_in_all(self) -> int:
        """Store of all processes."""
        return self.row * self.examples

    @property
    def bytes_each(self) -> int:
        """Store of the process with the most examples."""
        return self.row * math.ceil(self.examples / self.processes)

    @property
    def bytes_a_step(self) -> int:
        """Read by all processes together in a held step."""
        return self.row * self.batch_size

    @property
    def share(self) -> float:
        """Examples of a batch that the busiest process has, on average."""
        return self.largest_share * self.batch_size / self.processes

    @property
    def kind(self) -> str:
        """The store that a run would choose, of a disk that is large enough: device, host or file."""
        here = min(self.processes, self.machine.processes)
        device, host = self.machine.device_memory * GIGA, self.machine.host_memory * GIGA / here
        free = Free(int(device), int(host), disk=2**62)
        return choose_store("auto", self.bytes_each, self.examples, free).kind

    def seconds(self, what: str) -> float:
        """Of one held step, in the busiest process: computing, or reading by the link or the disk."""
        here = min(self.processes, self.machine.processes)
        read = self.share * self.row / GIGA
        return {
            # a forward pass and a backward pass, which costs twice as much
            "computing": 3 * self.share * self.flops / (self.machine.tflops * 1e12),
            "link": read / self.machine.link,
            "disk": read / (self.machine.disk / here),
        }[what]

    @property
    def waits(self) -> dict[str, float]:
        """Seconds a step of what the chosen store needs, by what it waits for."""
        needed = {"device": (), "host": ("link",), "file": ("disk", "link")}[self.kind]
        return {what: self.seconds(what) for what in ("computing", *needed)}

    @property
    def extra_work(self) -> float:
        """Forward passes of support strokes, as a share of the training's computing."""
        return self.strokes / (3 * self.epochs)


def make_plan(
    found: Sequence[Site],
    flops: int,
    *,
    examples: int,
    processes: int,
    batch_size: int,
    epochs: int,
    warmup: int,
    gap: int,
    order: Order = "shuffle",
    machine: Machine,
) -> Plan:
    """Work out what a run takes; `flops` are those of one example's forward pass.

    Raises `SettingsError` for numbers that make no run.
    """
    for name, value in (
        ("examples", examples),
        ("processes", processes),
        ("batch-size", batch_size),
        ("epochs", epochs),
        ("gap", gap),
    ):
        if value < 1:
            raise SettingsError(f"--{name} is a whole number, 1 or more, not {value}")
    if warmup < 0:
        raise SettingsError(f"--warmup is a number of epochs, 0 or more, not {warmup}")
    if not processes <= batch_size <= examples:
        raise SettingsError(
            f"--batch-size {batch_size} must be at least the {processes} processes and at most the "
            f"{examples:,} examples"
        )
    return Plan(
        row=sum(site.nbytes for site in found),
        examples=examples,
        processes=processes,
        batch_size=batch_size,
        strokes=math.ceil(max(0, epochs - warmup) / gap),
        most_strokes=max(0, epochs - warmup),
        epochs=epochs,
        flops=flops,
        largest_share=largest_share(batch_size, processes, order),
        machine=machine,
    )


def largest_share(batch_size: int, processes: int, order: Order = "shuffle") -> float:
    """Mean over batches of the largest share of a process, relative to an equal one.

    Examples are owned for good and batches are drawn at random, so that shares differ, and a step
    takes as long as the process with the most.
    """
    batches = max(1, SAMPLE // batch_size)
    examples = batches * max(batch_size, processes)
    visited = epoch_order(order, 4 * examples, torch.Generator().manual_seed(0))
    owners = visited[: batches * batch_size].view(batches, batch_size) % processes
    counts = torch.zeros(batches, processes).scatter_add_(1, owners, torch.ones(owners.shape))
    return float(counts.amax(1).mean()) * processes / batch_size


def forward_flops(model: nn.Module, x: torch.Tensor) -> int:
    """Operations of one forward pass of `x`, multiplications and additions counted apart."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(x)
    return int(counter.get_total_flops())
