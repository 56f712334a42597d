"""Guidance: a loss term that pulls the pre-activations of a live network to their given sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingsError, SupportMismatchError
from ..support import Support
from ..support.activations import Activation, Clamp, Threshold
from ..support.hard_threshold import as_channels
from ..support.intercept import Intercept
from .above import above
from .pairs import Pair, Pairs, same
from .pull import pull
from .told import Told


class Guidance:
    """A guidance under way: `loss()` is of the forward passes since the last call of it."""

    def __init__(self, told: Told, pairs: Pairs, margin: float) -> None:
        self._told = told
        self._margin = margin
        self._pairs: dict[str, list[Pair]] = {}
        for pair in pairs:
            self._pairs.setdefault(pair.student.key, []).append(pair)
        known = {site.key for site in told.support.sites}
        missing = [pair.teacher.key for pair in pairs if pair.teacher.key not in known]
        if missing:
            raise SupportMismatchError(
                f"the given support has no site {', '.join(missing)}: it has {', '.join(known)}"
            )
        self._pulls: dict[str, list[Tensor]] = {}

    def loss(self) -> Tensor:
        """Mean over pairs of sites of `pull`: a scalar with gradient.

        Of the last forward pass. Raises `SupportMismatchError` where it did not come by every site.
        """
        missing = self._pairs.keys() - self._pulls.keys()
        if missing:
            raise SupportMismatchError(
                f"the student did not come by {', '.join(sorted(missing))}: call the student itself "
                "within the block, in the mode in which it was paired"
            )
        return torch.stack([value for values in self._pulls.values() for value in values]).mean()

    def begin(self) -> None:
        """A forward pass begins."""
        self._pulls = {}

    def handle(self, path: str, call: int, act: Activation, run: Callable[[], Any]) -> Any:
        """Take the pull of one site, and let its function run."""
        key = f"{path}#{call}"
        if key in self._pairs and act.unitwise:
            q = _above_edge(act)
            self._pulls[key] = [self._pull(pair, q) for pair in self._pairs[key]]
        return run()

    def _pull(self, pair: Pair, q: Tensor) -> Tensor:
        told, key = self._told, pair.teacher.key
        q = pair.carry(q)
        shape = q.shape[1:]
        if shape != pair.teacher.shape:
            raise SupportMismatchError(
                f"{pair.student.key} gives {tuple(shape)} where {key} of the teacher is {pair.teacher.shape}: "
                "pair the student with images of the size that it is trained on"
            )
        if len(told) != len(q):
            raise SupportMismatchError(
                f"the given support is of {len(told)} examples and {pair.student.key} meets a batch of "
                f"{len(q)}: take the guide's batch of the same indices"
            )
        (packed, *_) = told.support.planes(told.support.site(key))
        if packed.device != q.device:
            raise SupportMismatchError(
                f"the given support is on {packed.device} and the student computes on {q.device}: "
                f"guide.batch(indices).to({str(q.device)!r})"
            )
        if key in told.places:
            q = q.flatten(2).index_select(2, told.places[key])
        return pull(q, packed, self._margin)


def _above_edge(act: Activation) -> Tensor:
    """Pre-activation less the threshold above which the unit is on; safe from what runs in place."""
    if isinstance(act, Clamp):
        q = act.q - act.low if act.low else act.q
    elif isinstance(act, Threshold):
        beta = act.beta
        q = act.q - (as_channels(beta, act.q) if isinstance(beta, Tensor) else beta)
    else:
        q = act.q
    return q.clone() if act.inplace and q is act.q else q


@contextmanager
def guided(
    student: nn.Module,
    told: Told | Support,
    *,
    pairs: Pairs | None = None,
    margin: float = 1.0,
) -> Iterator[Guidance]:
    """Guide a live network: within the block `guidance.loss()` says how far units are off their given sides.

    ```python
    with ts.guided(student, guide.batch(indices)) as guidance:
        loss = loss_fn(student(x), y) + 10 * guidance.loss()
    loss.backward()
    ```
    `told` is what `Guide.batch` returned for the images of this batch, or a `Support` that `record` made
    of a teacher. `pairs` says which site learns from which (`pair`); left out, the student has the sites
    of the teacher. The student computes what it always does, nothing wraps it, and no name changes.
    `margin` is in standard deviations of a site; let it fall over the run, from 1 to 0.5 for example: sides
    are then rough at first and exact in the end.

    Raises `SupportMismatchError` where supports do not fit, and `NestedHoldError` where the student is held
    or guided already.
    """
    if isinstance(told, Support):
        told = Told(above(told))
    if not margin > 0:
        raise SettingsError(f"the margin is a number above 0, not {margin}")
    guidance = Guidance(told, pairs or same(told.support.sites), margin)
    with Intercept(student, guidance, strict=False):
        yield guidance
