"""What is measured of a run's weights after each epoch, by all of its processes together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..alternation import Alternator, Processes
from ..data import Data
from ..support import Support, recording
from ..support.modes import evaluating
from .evaluate import Evaluation, Loss, mean_of, tally

DENSITY = 256  # examples whose density is told


@dataclass(frozen=True)
class Measure:
    """Losses, errors and densities; `probe` are the training examples that are looked at, (n,)."""

    data: Data
    probe: Tensor
    loss: Loss
    seed: int
    processes: Processes

    def probed(self, model: nn.Module, view: int) -> Evaluation:
        """Of the probe, in a view."""
        mine = self.processes.share(self.probe)
        counts = tally(model, self.data.train, mine, self.loss, view=view, seed=self.seed)
        return mean_of(self.processes.sum(counts))

    def tested(self, model: nn.Module) -> Evaluation:
        """Of the test set."""
        mine = self.processes.share(torch.arange(len(self.data.test)))
        return mean_of(self.processes.sum(tally(model, self.data.test, mine, self.loss)))

    def held(self, alternator: Alternator) -> Evaluation | None:
        """Of the probe under the held masks; None where there are none."""
        model, counts = alternator.model, []
        for part in self.probe.split(500):
            with self.processes.taking(part) as mine:
                under = alternator.held_network(mine)
                if under is None:
                    return None
                with under:
                    some = tally(
                        model,
                        self.data.train,
                        mine,
                        self.loss,
                        view=alternator.view,
                        seed=self.seed,
                    )
                counts.append(some * (not self.processes.idle))
        return mean_of(self.processes.sum(torch.stack(counts).sum(0)))

    def watched(self, model: nn.Module) -> tuple[float, Support | None]:
        """Density of the first probe examples, and the support of those that are this process's.

        In one view, so that the supports of two epochs can be compared. NaN and None where there
        are no sites.
        """
        with self.processes.taking(self.probe[:DENSITY]) as mine:
            x, _ = self.data.train.batch(mine, view=0, seed=self.seed)
            with (
                torch.no_grad(),
                evaluating(model),
                recording(model, strict=False) as recorder,
            ):
                model(x.to(next(model.parameters()).device))
            if not recorder.sites:
                return float("nan"), None
            support = recorder.support
            return float(self.processes.whole(support.density())), support
