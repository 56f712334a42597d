"""Is a model held exactly? What anyone asks first, answered for their own model and input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .._generators import generators_kept
from .eagerly import compiled_runs_eagerly
from .hold import hold
from .modules import unwrap
from .record import Inputs, buffers_kept, record
from .sites import Site


@dataclass(frozen=True)
class Check:
    """What `check` compared, and what differs: names with the largest difference, none where all is exact."""

    sites: tuple[Site, ...]
    outputs: int
    gradients: int
    differs: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every output and every gradient is equal, bit for bit."""
        return not self.differs

    def __str__(self) -> str:
        told = f"{len(self.sites)} sites, {self.outputs} outputs and {self.gradients} gradients: "
        return told + ("; ".join(self.differs) or "all equal, bit for bit")


def check(model: nn.Module, x: Inputs, *, pooling: bool = False, strict: bool = True) -> Check:
    """Whether `model`, held right after it was recorded, computes what it computes by itself.

    ```python
    assert ts.check(model, x).exact
    ```
    Compares, bit for bit, every output, and the gradients of a weighted sum of them to parameters and
    inputs. `x` and the options are those of `record`. The model runs in its mode and is left as it was;
    dropout draws the same in each pass, and what is compiled runs eagerly. Where two passes of the model
    itself differ, that is what is told.

    Raises what `record` and `hold` raise: a model that cannot be held is refused by name.
    """
    inner = unwrap(model)

    def plain() -> dict[str, Tensor | None]:
        with compiled_runs_eagerly:
            return _pass(inner, x, nullcontext)

    support = record(inner, _copies(x)[0], pooling=pooling, strict=strict)
    held = _pass(inner, x, lambda: hold(inner, support, strict=strict))
    live = plain()
    differs = _differ(live, held)
    if differs and (moody := _differ(live, plain())):
        differs = [f"{text} from one pass to the next, without any hold" for text in moody]
    outputs = sum(name.startswith("output") for name in live)
    return Check(support.sites, outputs, len(live) - outputs, tuple(differs))


def _pass(
    model: nn.Module, x: Inputs, within: Callable[[], AbstractContextManager[Any]]
) -> dict[str, Tensor | None]:
    """Outputs and gradients of one forward and backward pass, by name."""
    with generators_kept(), buffers_kept(model), torch.enable_grad():
        inputs, leaves = _copies(x)
        with within():
            output = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
            outputs = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
            found: dict[str, Tensor | None] = {
                f"output {k}": t.detach() for k, t in enumerate(outputs)
            }
            wanted: dict[str, Tensor] = {
                f"gradient of {n}": p for n, p in model.named_parameters() if p.requires_grad
            }
            wanted |= {f"gradient of input {k}": leaf for k, leaf in enumerate(leaves)}
            roots = [t for t in outputs if t.requires_grad]
            if not roots or not wanted:
                return found
            # weights that tell the entries of an output apart
            weights = [torch.linspace(1, 2, t.numel()).to(t).view(t.shape) for t in roots]
            grads = torch.autograd.grad(roots, [*wanted.values()], weights, allow_unused=True)
    return found | dict(zip(wanted, grads, strict=True))


def _copies(x: Inputs) -> tuple[Inputs, list[Tensor]]:
    """The inputs, free to be changed in place, and the leaves that gradients are taken to."""
    leaves: list[Tensor] = []

    def copy(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if not value.is_floating_point():
            return value.clone()
        leaves.append(value.detach().clone().requires_grad_())
        return leaves[-1].clone()

    return pytree.tree_map(copy, x), leaves


def _differ(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> list[str]:
    return [
        f"{name} differs{_by(value, other.get(name))}"
        for name, value in one.items()
        if not _same(value, other.get(name))
    ]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    # undefined values are equal where both are
    return (
        a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
    )


def _by(a: Tensor | None, b: Tensor | None) -> str:
    if a is None or b is None or a.shape != b.shape:
        return ""
    return f" by up to {float((a.double() - b.double()).abs().max()):.1e}"
