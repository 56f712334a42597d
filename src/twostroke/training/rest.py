"""Settled layers: what lies below supports that no longer move rests, and backward ends above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode

from ..errors import SettingsError
from ..support import Recorder, Support
from ..support.intercept import Intercept
from ..support.modes import evaluating


@dataclass(frozen=True, kw_only=True)
class Settled:
    """Let the layers below supports that no longer move rest for the remaining epochs.

    At each epoch's end the supports of up to 256 training examples, which are recorded anyway, are
    compared with those of the epoch before, site by site. Of the sites in the order in which they run,
    the first ones rest, up to the first that has not settled; the last one never does. A site has
    settled when its drift was `drift` or less at the end of each of `patience` epochs.

    All that has run before a site that rests, and is not used later, rests with it for good: weights are
    frozen and no gradient is computed for them, and batch norm keeps its statistics. So no backward
    pass goes below, nor do weight decay and momentum move what rests. Dropout goes on.

    drift: largest share of a site's units, from one epoch to the next, that may have changed sides.
    patience: epochs in a row.
    after: share of the run's epochs before which nothing rests.

    Raises `SettingsError` for values out of range.
    """

    drift: float = 0.05
    patience: int = 1
    after: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.drift <= 1:
            raise SettingsError(
                f"the largest drift of a settled site (drift, --rest) is a share of its units, above 0 "
                f"and up to 1, not {self.drift}"
            )
        if not isinstance(self.patience, int) or self.patience < 1:
            raise SettingsError(f"patience is a number of epochs, 1 or more, not {self.patience!r}")
        if not 0 <= self.after < 1:
            raise SettingsError(f"after is a share of the epochs in [0, 1), not {self.after}")


class Rest:
    """Which sites of a model rest, and what is frozen with them.

    `x`, (examples, ...), shows in which order modules and sites run; one example will do.
    """

    def __init__(self, kind: Settled | None, model: nn.Module, x: Tensor, epochs: int) -> None:
        self.kind = kind
        self.model = model
        self.resting = 0  # the first so many sites
        self.drifts: list[list[float]] = []  # by site, of each epoch from the second on
        self.support: Support | None = None  # of the watched examples, an epoch ago
        self._frozen: list[nn.Parameter] = []
        self._still: list[nn.Module] = []
        if kind is None:
            return
        self._first = kind.after * epochs
        self._order = _Order()
        with torch.no_grad(), evaluating(model), self._order.of(model):
            model(x)
        if len(self._order.sites) < 2:
            raise SettingsError(
                "the last site of a model never rests, and this one has "
                f"{len(self._order.sites) or 'none'}: leave rest=Settled(...) out"
            )

    @property
    def most(self) -> int:
        """How many sites can rest."""
        return len(self._order.sites) - 1

    def train(self) -> None:
        """Training mode, but for what rests."""
        self.model.train()
        for module in self._still:
            module.training = False

    def note(self, support: Support | None) -> None:
        """An epoch is over, and this is now the support of the examples that are watched."""
        if self.kind is None or support is None:
            return
        if self.support is not None:
            self.drifts.append(list(support.drift(self.support).by_site.values()))
        self.support = support
        epochs = len(self.drifts) + 1  # the first has no drift
        latest = self.drifts[-self.kind.patience :]
        if epochs < self._first or len(latest) < self.kind.patience:
            return
        settled = 0
        for drifts in zip(*latest, strict=True):
            if max(drifts) > self.kind.drift:
                break
            settled += 1
        self.freeze(max(self.resting, min(settled, self.most)))

    def freeze(self, sites: int) -> None:
        """Let the first so many sites rest, with whatever is used before the last of them only."""
        self.resting = sites
        for p in self.model.parameters():
            if p.requires_grad and self._order.before(p, sites):
                p.requires_grad_(False)
                p.grad = None  # an optimiser leaves alone what has none
                self._frozen.append(p)
        # buffers are what a module moves by itself in training mode: batch norm's statistics
        self._still = [
            module
            for module in self.model.modules()
            if any(True for _ in module.buffers(recurse=False))
            and self._order.before(module, sites)
        ]
        for module in self._still:
            module.training = False

    def close(self) -> None:
        """Training is over: what rested is as it was, to be trained again."""
        for p in self._frozen:
            p.requires_grad_()
        for module in self._still:
            module.training = self.model.training
        self._frozen, self._still = [], []

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What a checkpoint must keep: plain values and tensors."""
        rows = {} if self.support is None else {"rows": self.support.rows}
        return {"resting": self.resting, "drifts": self.drifts}, rows

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.drifts = [[float(drift) for drift in drifts] for drifts in values["drifts"]]
        self.support = None
        if "rows" in tensors:
            rows = tensors["rows"].to(next(self.model.parameters()).device)
            self.support = Support(self._order.sites, rows)
        self.freeze(int(values["resting"]))


class _Order(Recorder):
    """Follows a forward pass: how many sites were met when a module or parameter was last used."""

    def __init__(self) -> None:
        super().__init__(None)
        self._last: dict[int, int] = {}  # by id of the module or parameter

    def before(self, used: nn.Module | nn.Parameter, sites: int) -> bool:
        """Whether it is used, and not from the call of the last of so many sites on."""
        return self._last.get(id(used), sites) < sites

    def use(self, *used: Any) -> None:
        """These were used now."""
        for one in used:
            if isinstance(one, list | tuple):  # a recurrent layer's weights, say
                self.use(*one)
            elif isinstance(one, nn.Module | nn.Parameter):
                self._last[id(one)] = len(self.sites)

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[None]:
        """Follow the calls of `model` within the block."""

        def leave(module: nn.Module, _args: Any, _output: Any) -> None:
            # what is its own may have been used until here by way of something made of it
            self.use(module, *module.parameters(recurse=False))

        # innermost, so that it sees functions before the intercept answers them
        with Intercept(model, self, strict=False), _Uses(self):
            hook = register_module_forward_hook(leave)
            try:
                yield
            finally:
                hook.remove()


class _Uses(TorchFunctionMode):
    """Tells of every parameter that a PyTorch function is given, whichever module calls it."""

    def __init__(self, order: _Order) -> None:
        super().__init__()
        self._order = order

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self._order.use(*args, *kwargs.values())
        return func(*args, **kwargs)
