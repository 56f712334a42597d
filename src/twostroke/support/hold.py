"""The weight stroke's forward pass: every site computes `z = m ∘ q` with a given mask (eq. 13)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingsError, SupportMismatchError, UnholdableError
from .activations import Activation, Relu
from .intercept import Intercept
from .rules import Rule, planes_of
from .sites import Site
from .support import Support


class Held:
    """A hold under way, with its `inconsistency` where `hold` was called with `penalty=True`."""

    def __init__(
        self,
        support: Support | Rule,
        *,
        gated: bool,
        strict: bool,
        penalty: bool,
    ) -> None:
        self._support = support if isinstance(support, Support) else None
        self._rule = None if isinstance(support, Support) else support
        self._known: dict[str, tuple[Site, list[Tensor]]] = {}
        if isinstance(support, Support):
            places = zip(support.sites, support.all_planes(), strict=True)
            self._known = {site.key: (site, planes) for site, planes in places}
        self._gated = gated
        self._strict = strict
        self._penalty = penalty
        self._violations: list[tuple[Tensor, int]] = []

    @property
    def inconsistency(self) -> Tensor:
        """How far pre-activations lie from the side that they are held on.

        The mean over units of `ReLU(q) - m ∘ q`, which is `|q|` where the held mask disagrees with
        the sign of `q` and 0 where it agrees; a scalar that carries a gradient. Of the last forward
        pass; ReLU sites only.
        """
        if not self._violations:
            raise SettingsError(
                "no inconsistency was measured: hold with penalty=True and call the model first"
            )
        above, units = zip(*self._violations, strict=True)
        mean: Tensor = torch.stack(above).sum() / sum(units)
        return mean

    def begin(self) -> None:
        """A forward pass begins."""
        self._violations = []

    def handle(self, path: str, call: int, act: Activation, run: Callable[[], Any]) -> Any:
        """Output of one call under its mask."""
        if self._rule is not None:
            if not act.unitwise:
                return run()
            with torch.no_grad():
                planes = planes_of(self._rule, act)
        else:
            known = self._known.get(f"{path}#{call}")
            if known is None:
                if self._strict and act.unitwise:
                    raise SupportMismatchError(
                        f"{path}#{call} has no mask in this support. Was it recorded from another "
                        "model, or in another mode (auxiliary heads run in training mode only)? "
                        "Record in the mode in which you hold, or pass strict=False to leave such "
                        "sites live"
                    )
                return run()
            site, planes = known
            self._check(site, act)
        if self._penalty and act.kind == "relu":
            # before the line below, which may change q in place
            q = act.q.clone() if act.inplace else act.q
            z = act.gated(planes) if self._gated else act.held(planes)
            held = z if not self._gated else Relu(q).held(planes)
            self._violations.append(((torch.relu(q) - held).sum(), q.numel()))
            return z
        return act.gated(planes) if self._gated else act.held(planes)

    def _check(self, site: Site, act: Activation) -> None:
        """Raise `SupportMismatchError` where the mask does not fit the call."""
        support = self._support
        assert support is not None
        q = act.q
        shape = tuple(act.shape[1:])
        if site.kind != act.kind or site.shape != shape or site.planes != act.planes:
            raise SupportMismatchError(
                f"{site.key} is a {act.kind} of {shape} here, and was recorded as a {site.kind} of "
                f"{site.shape}: this support belongs to another model or to inputs of another size"
            )
        if len(support) != q.shape[0] and not support.shared:
            raise SupportMismatchError(
                f"the support is of {len(support)} examples and {site.key} meets a batch of "
                f"{q.shape[0]}: index the support by the examples of the batch, support[indices]"
            )
        if support.device != q.device:
            raise SupportMismatchError(
                f"the support is on {support.device} and the model computes on {q.device}: "
                f"call support.to({str(q.device)!r}) before the hold"
            )


@contextmanager
def hold(
    model: nn.Module,
    support: Support | Rule,
    *,
    gated: bool = False,
    strict: bool = True,
    penalty: bool = False,
) -> Iterator[Held]:
    """Hold a support: within the block every site computes `m ∘ q` (eq. 13), and gradients flow.

    `support` is what `record` returned for the batch that the model will meet, or a rule, which makes
    masks from each batch as it comes (the paper's B-alternation with `BatchEnergy`, its MaskT with
    `Energy`). A unit that is off gives what its function gives below: 0 for ReLU, `slope · q` for
    LeakyReLU, the lower end of a clamp. `gated=True` computes `m ∘ ReLU(q)` instead: the activation
    stays, the mask stands on top of it, and what is off gives 0. Held activations keep only the packed
    bits for the backward pass.

    The model is not changed, also not while it is held: parameters, buffers and their names are the
    same, and an exception leaves nothing behind. `penalty=True` also measures
    `held.inconsistency`, which may be added to the loss.

    Raises `SupportMismatchError` at the first site that the support does not fit, `UnholdableError`
    as `record` does, and `NestedHoldError` where the model is held already.
    """
    if not isinstance(support, Support | Rule):
        raise UnholdableError(
            f"hold takes a Support or a rule, not {type(support).__name__}: "
            "support = twostroke.record(model, x)"
        )
    held = Held(support, gated=gated, strict=strict, penalty=penalty)
    with Intercept(model, held, strict=strict):
        yield held
