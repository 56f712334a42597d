"""Small nets of every form that people write, with an input: held exactly, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from tests.support.helpers import Call, normal


class Recurrent(nn.Module):
    """A recurrent net with ReLU, unrolled by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back, self.out = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:  # x: (batch, time, 3)
        state = x.new_zeros(len(x), 6)
        for step in x.unbind(1):
            state = torch.relu(self.into(step) + self.back(state))
        return self.out(state)


class Several(nn.Module):
    """Three inputs, one of whole numbers; outputs in a dict, one of them a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.words = nn.Linear(4, 5), nn.Linear(3, 5), nn.Embedding(7, 5)

    def forward(self, a: Tensor, b: Tensor, words: Tensor) -> dict[str, Any]:
        one, two = F.relu(self.a(a)), F.relu(self.b(b))
        three = F.relu(self.words(words).mean(1))
        return {"sum": one + two * three, "parts": (one, two.detach(), len(a)), "none": None}


class Shared(nn.Module):
    """One block under two names and called three times, one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
        self.again = self.block
        self.tied = nn.Linear(5, 5)
        self.tied.weight = self.block[0].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.again(self.block(self.block(x)) - 0.1)).relu()


class Nested(nn.Module):
    """Parts in lists and dicts, of which some are called past `__call__`."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 4), nn.ModuleDict({"act": nn.ReLU()}), nn.ReLU6()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.parts[1]["act"](self.parts[0](x))
        return self.parts[2].forward(self.parts[0].forward(x) + x)


class Functional(nn.Module):
    """A part that is called by `torch.func.functional_call`, with weights made in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale = convs(), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        weights = {name: self.scale * p for name, p in self.inner.named_parameters()}
        return torch.func.functional_call(self.inner, weights, (x,))


class Checkpointed(nn.Module):
    """Gradient checkpointing, which runs a part again during backward."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.part, self.reentrant = nn.Conv2d(3, 3, 1), convs(), reentrant

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.part, self.first(x), use_reentrant=self.reentrant)


class OwnRelu(torch.autograd.Function):
    """ReLU with a backward pass of one's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (ctx.saved_tensors[0] > 0)


class ByPiece(nn.Module):
    """A part that is mapped over the batch, one example at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.vmap(self.part)(x)


def convs(
    *more: nn.Module, channels: int = 3, act: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    layers = [
        nn.Conv2d(channels, 4, 3, padding=1),
        act(),
        *more,
        nn.Conv2d(4, 3, 3, padding=1),
        act(),
    ]
    return nn.Sequential(*layers)


def pruned() -> nn.Module:
    net = convs()
    prune.l1_unstructured(net[0], "weight", 0.5)
    return net


def in_place() -> nn.Module:
    first, last = (
        Call(lambda x: x.relu_().mul(2)),
        Call(lambda x: F.relu(x.sub(0.1).clamp_(min=0), True)),
    )
    return nn.Sequential(first, nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), last)


def exported(net: nn.Module) -> nn.Module:
    made: nn.Module = torch.export.export(net.eval(), (images(),)).module()
    return made


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return normal(2, 3, 6, 6, dtype=dtype)


class Case(NamedTuple):
    """How a net is made, and what goes into it. `refused` are words of the refusal, None where it is held."""

    make: Callable[[], nn.Module]
    x: Callable[[], Any] = images
    refused: str | None = None
    modes: tuple[bool, ...] = (False, True)  # evaluation, training
    double: bool = True


def layers(*between: nn.Module) -> Case:
    return Case(lambda: convs(*between))


NORMS = [
    nn.BatchNorm2d(4),
    nn.GroupNorm(2, 4),
    nn.InstanceNorm2d(4, affine=True),
    nn.LayerNorm([4, 6, 6]),
]
OLD = [nn.utils.weight_norm, nn.utils.spectral_norm]
NEW = [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]

CASES = {
    "1-D": Case(
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.ReLU()),
        lambda: normal(2, 3, 9),
    ),
    "3-D": Case(
        lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.ReLU(), nn.MaxPool3d(2)),
        lambda: normal(2, 2, 5, 4, 5),
    ),
    "recurrent": Case(Recurrent, lambda: normal(4, 5, 3)),
    "several inputs and outputs": Case(
        Several, lambda: (normal(2, 4), normal(2, 3), torch.tensor([[1, 2], [3, 4]]))
    ),
    "shared and tied": Case(Shared, lambda: normal(3, 5)),
    "nested": Case(Nested, lambda: normal(3, 4)),
    **{f"{type(n).__name__}": layers(n) for n in NORMS},
    **{f"old {f.__name__}": Case(lambda f=f: convs(f(nn.Conv2d(4, 4, 1)))) for f in OLD},
    **{f.__name__: Case(lambda f=f: convs(f(nn.Conv2d(4, 4, 1)))) for f in NEW},
    "pruned": Case(pruned),
    "dropout": layers(nn.Dropout2d(0.4), nn.AlphaDropout(0.2)),
    "transposed, grouped, upsampled": layers(
        nn.ConvTranspose2d(4, 4, 2, groups=2), nn.Upsample(scale_factor=2, mode="bilinear")
    ),
    "in place": Case(in_place),
    "functional call": Case(Functional),
    "lazy": Case(lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU())),
    "single precision": Case(convs, lambda: images(torch.float32), double=False),
    "bfloat16": Case(lambda: convs().bfloat16(), lambda: images(torch.bfloat16), double=False),
    "channels last": Case(convs, lambda: images().contiguous(memory_format=torch.channels_last)),
    "strided": Case(convs, lambda: normal(2, 3, 12, 12)[:, :, ::2, ::2]),
    "compiled": Case(lambda: torch.compile(convs(nn.BatchNorm2d(4)), backend="eager")),
    "traced by fx": Case(lambda: torch.fx.symbolic_trace(convs(nn.BatchNorm2d(4)))),
    "exported": Case(
        lambda: exported(convs(nn.MaxPool2d(2), nn.BatchNorm2d(4), act=nn.ReLU6).double()),
        modes=(True,),  # it is neither in training nor in evaluation mode, and cannot be put there
        double=False,
    ),
    "no example but one": Case(convs, lambda: images()[:1]),
    "no gradient": Case(lambda: convs().requires_grad_(False)),
    # -- refused -----------------------------------------------------------------------------------
    "checkpointed": Case(lambda: Checkpointed(False), refused="activation checkpoint"),
    "checkpointed, reentrant": Case(lambda: Checkpointed(True), refused="activation checkpoint"),
    "scripted": Case(
        lambda: torch.jit.script(convs()), refused="pass the module that it was made from"
    ),
    "data parallel": Case(lambda: nn.DataParallel(convs()), refused="DistributedDataParallel"),
    "nn.RNN": Case(
        lambda: nn.RNN(3, 4, nonlinearity="relu"), lambda: normal(2, 5, 3), "relu in the model"
    ),
    "nn.LSTM": Case(lambda: nn.LSTM(3, 4), lambda: normal(2, 5, 3), "in the model itself"),
    "attention": Case(
        lambda: nn.TransformerEncoderLayer(4, 2, 8), lambda: normal(2, 3, 4), "self_attn"
    ),
    "own autograd": Case(
        lambda: convs(Call(OwnRelu.apply)), refused="'2' runs within an autograd function"
    ),
    "a product with a sign": Case(lambda: convs(Call(lambda x: x * (x > 0))), refused="gt in 2"),
    "where": Case(lambda: convs(Call(lambda x: torch.where(x > 0, x, 0.0))), refused="gt in 2"),
    "GELU": Case(lambda: convs(nn.GELU()), refused="gelu in 2"),
    "mapped": Case(ByPiece, lambda: normal(3, 4), "relu in part.1"),
}
