"""What a student learns from: one term of the loss for each arm, all in the same loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twostroke.guidance import Pairs, Told, guided
from twostroke.guidance.objective import distillation
from twostroke.support.intercept import Intercept


@dataclass
class Step:
    """What an arm may look at in one step; `told` is of the guide, `progress` from 0 to 1."""

    student: nn.Module
    teacher: nn.Module
    pairs: Pairs
    x: Tensor
    y: Tensor
    told: Told
    progress: float
    weight: float


class Taps:
    """Pre-activations of every site of a forward pass."""

    def begin(self) -> None:
        self.q: dict[str, Tensor] = {}

    def handle(self, path, call, act, run):
        if act.unitwise:
            self.q[f"{path}#{call}"] = act.q.clone() if act.inplace else act.q
        return run()


def both(step: Step) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The student's outputs, and pairs of its carried pre-activations with the teacher's."""
    mine, theirs = Taps(), Taps()
    with torch.no_grad(), Intercept(step.teacher, theirs, strict=False):
        step.teacher(step.x)
    with Intercept(step.student, mine, strict=False):
        outputs = step.student(step.x)
    found = [(p.carry(mine.q[p.student.key]), theirs.q[p.teacher.key]) for p in step.pairs]
    return outputs, found


def labels(step: Step) -> Tensor:
    return F.cross_entropy(step.student(step.x), step.y)


def kd(step: Step) -> Tensor:
    """Hinton et al. 2015, T = 4."""
    return distillation(step.student(step.x), step.told.outputs, 4.0)


def guidance_of(step: Step) -> tuple[Tensor, Tensor]:
    """The student's outputs, and its guidance with `distill`'s margins."""
    margin = 1 - 0.5 * step.progress
    with guided(step.student, step.told, pairs=step.pairs, margin=margin) as guidance:
        outputs = step.student(step.x)
    return outputs, guidance.loss()


def guided_alone(step: Step) -> Tensor:
    """Given sides, and labels for the last layer."""
    outputs, loss = guidance_of(step)
    return step.weight * loss + F.cross_entropy(outputs, step.y)


def guided_kd(step: Step) -> Tensor:
    outputs, loss = guidance_of(step)
    return step.weight * loss + distillation(outputs, step.told.outputs, 4.0)


def hint(step: Step) -> Tensor:
    """FitNets (Romero et al. 2015): the teacher's activations at every paired site, relative squares."""
    outputs, found = both(step)
    terms = []
    for q, teacher in found:
        z, goal = q.relu(), teacher.relu()
        terms.append((z - goal).square().mean() / goal.square().mean())
    return step.weight * torch.stack(terms).mean() + distillation(outputs, step.told.outputs, 4.0)


def boundary(step: Step) -> Tensor:
    """Heo et al. 2019 as published: squares beyond a margin of 1 about the raw sides, summed over units.

    The last site counts 1, the one before it 1/2, and so on; all of it is divided by 1000. First half
    of the run this alone, then distillation.
    """
    if step.progress >= 0.5:
        return kd(step)
    _, found = both(step)
    total = torch.zeros((), device=step.x.device)
    for k, (q, teacher) in enumerate(reversed(found)):
        on = teacher > 0
        off_side = ((q > -1) & ~on) * (q + 1).square() + ((q <= 1) & on) * (q - 1).square()
        total = total + off_side.sum() / len(q) / 2**k
    return step.weight * total / 1000


def torchdistill(step: Step, loss: str, pairs: str, **options: object) -> tuple[Tensor, Tensor]:
    """A loss of torchdistill's own code on the pre-activations of all paired sites, and the outputs."""
    from torchdistill.losses import mid_level

    outputs, found = both(step)
    mine, theirs = ({str(k): {"output": pair[i]} for k, pair in enumerate(found)} for i in (0, 1))
    named = {
        k: {side: {"path": k, "io": "output"} for side in ("student", "teacher")} for k in mine
    }
    value = getattr(mid_level, loss)(**{pairs: named}, **options)(mine, theirs)
    return step.weight * value, outputs


def torchdistill_ab(step: Step) -> Tensor:
    """Their activation boundaries (equal weights), then outputs, as their published settings have it."""
    if step.progress >= 0.5:
        return kd(step)
    options = {"margin": 1.0, "reduction": "mean"}
    return torchdistill(step, "AltActTransferLoss", "feature_pairs", **options)[0] / 1000


def torchdistill_at(step: Step) -> Tensor:
    """Their attention transfer (Zagoruyko and Komodakis 2017) beside the outputs."""
    value, outputs = torchdistill(step, "ATLoss", "at_pairs", mode="code")
    return value + distillation(outputs, step.told.outputs, 4.0)


@dataclass(frozen=True)
class Arm:
    """A term, weights to choose from, and whether it needs labels; `bits` a unit it needs to be told."""

    term: Callable[[Step], Tensor]
    weights: tuple[float, ...] = (1.0,)
    bits: int = 0
    outputs: bool = True
    labels: bool = False
    copied: bool = False  # begins with the teacher's strongest channels


ARMS = {
    "labels": Arm(labels, outputs=False, labels=True),
    "kd": Arm(kd),
    "hint": Arm(hint, (10.0, 30.0), bits=32),
    "ab": Arm(boundary, (1.0, 10.0), bits=1),
    "guided": Arm(guided_alone, (10.0, 30.0), bits=1, outputs=False, labels=True),
    "guided+kd": Arm(guided_kd, (10.0, 30.0), bits=1),
    "torchdistill ab": Arm(torchdistill_ab, (1.0, 10.0), bits=1),
    "torchdistill at": Arm(torchdistill_at, (100.0, 1000.0), bits=32),
    "copied, kd": Arm(kd, copied=True),
    "copied, guided+kd": Arm(guided_kd, (10.0, 30.0), bits=1, copied=True),
}
