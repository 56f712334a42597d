"""What is measured of a run's weights after each epoch, by all of its processes together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..alternation import Alternator
from ..data import Data
from ..processes import Processes
from ..support import Share, recording
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
        """Of the probe under the held masks; None where nothing is held."""
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

    def density(self, model: nn.Module) -> Share:
        """Share of units that are on, on the first examples of the probe; NaN where there are no sites.

        Always in the same view, so that epochs can be compared.
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
                return Share("nan")
            return self.processes.whole(recorder.support.density())


def by_site(share: Share | None) -> dict[str, float]:
    """The shares at each site by its key; none where nothing was measured."""
    return {site.key: value for site, value in getattr(share, "by_site", {}).items()}
