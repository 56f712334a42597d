"""Replace a model's ReLUs by positive hard-thresholding, with thresholds from the biases (§4.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnholdableError
from .activations import Activation
from .hard_threshold import HardThreshold
from .modules import unwrap, walk
from .record import Inputs, one_pass


class _Feeders:
    """Finds which module's output enters which ReLU, and whether its bias is one a channel."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Tensor, nn.Module]] = {}  # tensors are kept, so ids are unique
        self.found: dict[str, list[nn.Module | None]] = {}

    def begin(self) -> None:
        pass

    def note(self, module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not list(module.children()):
            self.made[id(output)] = (output, module)

    def handle(self, path: str, _call: int, act: Activation, run: Callable[[], Any]) -> Any:
        if act.kind == "relu":
            _, feeder = self.made.get(id(act.q), (None, None))
            bias = getattr(feeder, "bias", None)
            along = isinstance(feeder, nn.Linear | nn.LayerNorm) and act.q.ndim > 2
            if isinstance(bias, Tensor) and (along or bias.shape != act.q.shape[1:2]):
                feeder = None  # its bias does not lie along the channels
            self.found.setdefault(path, []).append(feeder)
        return run()


def use_hard_threshold(
    model: nn.Module,
    x: Inputs,
    *,
    beta: float | None = None,
    learn: bool = False,
    width: float = 1.0,
) -> nn.Module:
    """Swap the `nn.ReLU`s that `x` runs through for `HardThreshold`, in place; returns the model.

    With `beta=None` the thresholds come from the biases, as §4.1 does after its warm-up: where a
    layer computes `ReLU(Wx + b)`, it then computes `Wx` where `Wx > -b`, so `beta = -b`, one a
    channel, and the bias becomes zero. A batch norm's bias counts as well. Same support as before
    on the first layer; values differ by `b`. With a number, biases stay and all thresholds are it.

    `x` is a batch to run once, which shows what feeds which ReLU. Raises `UnholdableError`, before
    anything is changed, where a ReLU is a function (`F.relu`) and not a module. With `beta=None` it
    raises it also where a ReLU is fed by several layers, or by none (by a sum).
    """
    root = unwrap(model)
    feeders = _Feeders()
    hook = nn.modules.module.register_module_forward_hook(feeders.note)
    try:
        one_pass(model, x, feeders, strict=False)
    finally:
        hook.remove()
    modules = {path: module for module, path in walk(root).items()}
    compiled = {id(getattr(module, "_orig_mod", None)) for module in root.modules()}
    problems = []
    for path, sources in feeders.found.items():
        if not path or not isinstance(modules[path], nn.ReLU):
            problems.append(f"{path or 'the model itself'} calls relu as a function")
        elif id(modules[path]) in compiled:
            problems.append(f"{path} is compiled on its own")
        elif beta is None and len({id(s) for s in sources}) > 1:
            problems.append(f"{path} is called {len(sources)} times, after different layers")
        elif beta is None and not hasattr(sources[0], "bias"):
            problems.append(f"{path} is fed by no layer with a bias for each channel")
    if problems:
        raise UnholdableError(
            "cannot replace these ReLUs by thresholds: "
            + "; ".join(problems)
            + ". Give each layer an nn.ReLU of its own"
            + (", or pass a number for beta" if beta is None else "")
        )
    like = next(root.parameters(), torch.zeros(()))
    swaps: dict[int, HardThreshold] = {}
    biases: list[Tensor] = []
    for path, sources in feeders.found.items():
        value = like.new_tensor(0.0 if beta is None else beta)
        bias = getattr(sources[0], "bias", None)
        if beta is None and isinstance(bias, Tensor):
            value = -bias.detach()
            biases.append(bias)
        old = modules[path]
        swaps[id(old)] = HardThreshold(value, learn=learn, width=width).train(old.training)
    with torch.no_grad():
        for bias in biases:
            bias.zero_()
    for parent in list(root.modules()):
        for name, child in parent._modules.items():  # under each of its names
            if new := swaps.get(id(child)):
                setattr(parent, name, new)
    return model
