"""The drift certificate: how many units can have changed sides, told from the weights alone.

A unit keeps its side for certain while its pre-activation cannot have moved by more than its margin |q|. With
the pre-activations of some examples recorded once, the weights then and now bound that movement, layer after
layer, without a forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnholdableError
from ..support import Share, Site
from ..support.intercept import unwrap
from ..support.modes import evaluating

_RECORDED = ("matrix", "shift", "patches", "size", "margins")
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass
class _Layer:
    """One weight layer with what follows it up to its site, as they were recorded."""

    name: str
    module: nn.Conv2d | nn.Linear
    norm: nn.Module | None
    site: Site | None
    matrix: Tensor  # (out, in · kernel) batch norm folded in
    shift: Tensor  # (out,)
    patches: Tensor  # (examples, 1, positions) norm of what each unit looks at
    size: Tensor  # (examples,) norm of the whole input
    margins: Tensor | None  # (examples, out, positions) |q| where a site follows
    positions: int


class DriftCertificate:
    """Bounds the drift of a network's own support since this object was made.

    Made from a model and some examples `x`, (examples, ...), by one forward pass in evaluation mode.
    `bound()` is then the share of units that may have changed sides, at any later weights, and `bound`
    is never below the true drift: for each unit of channel c, with w and b then, w' and b' now,

        |q' - q| <= |w'_c - w_c| |patch of z| + |w'_c| |z' - z| + |b'_c - b_c|

    in Euclidean norms, and |z' - z| of a layer's whole output is bounded by the spectral norms of
    the layers below in the same way, ReLU being 1-Lipschitz. Batch norm is folded into the weights with
    its running statistics, so that the bound is one for the network in evaluation mode.

    The bound is far above the truth after a few steps. `calibrate(drift)`, with a drift that was
    measured now, scales it so that `estimate()` would have told that drift; from there on `estimate()`
    is a guess, not a bound, that needs no forward pass either.

    Raises `UnholdableError` for a model whose layers are not a plain sequence of `Conv2d` (no
    groups, zero padding), `Linear`, batch norm, ReLU and what does not lengthen a difference (average
    and max pooling without overlap, flatten, dropout), or that has parameters elsewhere, naming the
    culprit.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model = unwrap(model)
        self.scale: float | None = None
        with torch.no_grad(), evaluating(self.model), _following(self.model) as calls:
            self.model(x)
        self._layers = list(_read(self.model, calls))
        _refuse_strangers(self.model, self._layers)
        self._overlaps = [_overlap(layer.module) for layer in self._layers]

    @property
    def sites(self) -> list[Site]:
        """Sites whose drift is bounded, in order."""
        return [layer.site for layer in self._layers if layer.site is not None]

    def bound(self) -> Share:
        """Share of the units that may have changed sides, overall and by site; no forward pass."""
        return self._share(1.0)

    def calibrate(self, drift: float) -> None:
        """Take a drift that was measured at the present weights as what `estimate` should tell."""
        reach = torch.cat([r.flatten() for r in self._reaches().values()])
        rank = min(max(round(drift * len(reach)), 1), len(reach))
        self.scale = float(reach.kthvalue(rank).values)

    def estimate(self) -> Share:
        """The calibrated form of `bound`; the bound itself before any calibration."""
        return self._share(1.0 if self.scale is None else self.scale)

    def tensors(self) -> dict[str, Tensor]:
        """What was recorded, and the calibration, for a checkpoint."""
        scale = torch.tensor(torch.nan if self.scale is None else self.scale, dtype=torch.float64)
        found = {"scale": scale}
        for i, layer in enumerate(self._layers):
            for name in _RECORDED:
                value = getattr(layer, name)
                if value is not None:
                    found[f"{i}.{name}"] = value
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave for the same model and examples."""
        for i, layer in enumerate(self._layers):
            for name in _RECORDED:
                if getattr(layer, name) is not None:
                    setattr(layer, name, tensors[f"{i}.{name}"].to(layer.size))
        scale = float(tensors["scale"])
        self.scale = None if math.isnan(scale) else scale

    def _share(self, scale: float) -> Share:
        reaches = self._reaches()
        counts = {site: int((reach <= scale).sum()) for site, reach in reaches.items()}
        return Share.of(counts, {site: reach.numel() for site, reach in reaches.items()})

    @torch.no_grad()
    def _reaches(self) -> dict[Site, Tensor]:
        """Margin over bound of every unit: where it is above 1 the unit has kept its side."""
        found = {}
        moved = torch.zeros_like(self._layers[0].size)  # (examples,) |z' - z|
        for layer, overlap in zip(self._layers, self._overlaps, strict=True):
            matrix, shift = _folded(layer.module, layer.norm)
            turned, lifted = matrix - layer.matrix, shift - layer.shift
            by_unit = (
                turned.norm(dim=1)[:, None] * layer.patches
                + matrix.norm(dim=1)[:, None] * moved[:, None, None]
                + lifted.abs()[:, None]
            )  # (examples, out, positions)
            if layer.site is not None and layer.margins is not None:
                # 0 / 0: a unit at 0 that has not moved has not changed sides
                reach = layer.margins / by_unit
                found[layer.site] = reach.nan_to_num(nan=torch.inf, posinf=torch.inf)
            whole = (
                overlap * _spectral(turned) * layer.size
                + overlap * _spectral(matrix) * moved
                + layer.positions**0.5 * lifted.norm()
            )
            moved = torch.minimum(whole, by_unit.flatten(1).norm(dim=1))
        return found


def _spectral(matrix: Tensor) -> Tensor:
    # a hair above what is computed, so that rounding does not make a bound of it that is none
    norm: Tensor = torch.linalg.matrix_norm(matrix, 2)
    return norm * (1 + 1e-6)


def _overlap(module: nn.Conv2d | nn.Linear) -> float:
    """Norm of cutting an image into patches: the root of how many patches a pixel can be in."""
    if isinstance(module, nn.Linear):
        return 1.0
    many: int = 1
    for k, s, d in zip(module.kernel_size, module.stride, module.dilation, strict=True):
        many *= -(-k // (s // math.gcd(s, d)))
    return math.sqrt(many)


def _folded(module: nn.Conv2d | nn.Linear, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight matrix (out, in · kernel) and shift (out,) of a layer with its batch norm."""
    matrix = module.weight.detach().flatten(1)
    shift = matrix.new_zeros(len(matrix)) if module.bias is None else module.bias.detach()
    if norm is None:
        return matrix.clone(), shift.clone()
    slope = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        slope = slope * norm.weight.detach()
    shift = (shift - norm.running_mean) * slope
    if norm.bias is not None:
        shift = shift + norm.bias.detach()
    return matrix * slope[:, None], shift


def _refuse_strangers(model: nn.Module, layers: list[_Layer]) -> None:
    """Raise `UnholdableError` for a parameter that could move units unseen, such as a scale that is 1 now.

    Frozen ones stay what they are.
    """
    followed = {
        p
        for layer in layers
        for module in (layer.module, layer.norm)
        if module is not None
        for p in module.parameters()
    }
    for name, p in model.named_parameters():
        if p.requires_grad and p not in followed:
            raise UnholdableError(
                f"parameter {name!r} is of no layer that a drift certificate follows (Conv2d, Linear, "
                "batch norm behind them): put it into one, or tell the drift by a probe"
            )


class _Call(NamedTuple):
    """A leaf module's call, with copies of what went in and came out."""

    name: str
    module: nn.Module
    z: Tensor
    out: Tensor
    direct: bool  # whether the very tensor went in that the call before gave


@contextmanager
def _following(model: nn.Module) -> Iterator[list[_Call]]:
    """Calls of leaf modules, in their order."""
    calls: list[_Call] = []
    entered: list[tuple[Tensor, bool]] = []
    given: Tensor | None = None
    hooks = []
    for name, module in model.named_modules():
        if next(module.children(), None) is not None:
            continue

        def before(module: nn.Module, args: Any) -> None:
            # ReLU may work in place
            entered.append((args[0].clone(), given is None or args[0] is given))

        def after(module: nn.Module, args: Any, output: Tensor, name: str = name) -> None:
            nonlocal given
            z, direct = entered.pop()
            calls.append(_Call(name, module, z, output.clone(), direct))
            given = output

        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _read(model: nn.Module, calls: list[_Call]) -> Iterator[_Layer]:
    layer: dict[str, Any] | None = None
    last: Tensor | None = None
    seen: dict[str, int] = {}
    for name, module, z, out, direct in calls:
        # a function may change nothing now, as × 1 does, or change the very tensor
        if not direct or (last is not None and not torch.equal(last, z)):
            raise UnholdableError(
                f"{name!r} does not take what the module before it gives, or a function stands between: "
                "a drift certificate needs modules in a plain sequence"
            )
        last = out
        if isinstance(module, nn.Conv2d | nn.Linear):
            if layer is not None:
                yield _Layer(**layer)
            layer = _start(name, module, z, out)
        elif isinstance(module, _NORMS) and layer is not None and layer["norm"] is None:
            if module.running_mean is None:
                raise UnholdableError(
                    f"{name!r} is a batch norm without running statistics, whose scale is another in every "
                    "batch: track_running_stats=True, or watch='probe'"
                )
            if layer["site"] is not None:
                raise UnholdableError(f"{name!r} is a batch norm that no layer stands before")
            layer["norm"] = module
            layer["matrix"], layer["shift"] = _folded(layer["module"], module)
        elif isinstance(module, nn.ReLU) and layer is not None and layer["site"] is None:
            call = seen.get(name, 0)
            seen[name] = call + 1
            layer["site"] = Site(name, call, "relu", tuple(z.shape[1:]))
            layer["margins"] = z.abs().flatten(2) if z.ndim > 2 else z.abs()[:, :, None]
        elif isinstance(module, nn.Flatten | nn.Identity | nn.Dropout | nn.ReLU):
            pass
        elif not _shortens(module):
            raise UnholdableError(
                f"{name!r} ({type(module).__name__}) may lengthen a difference: a drift certificate "
                "follows Conv2d, Linear, batch norm, ReLU, pooling without overlap, flatten, dropout"
            )
    if layer is None:
        raise UnholdableError("the model has no weight layer")
    yield _Layer(**layer)


def _shortens(module: nn.Module) -> bool:
    """Whether outputs differ by no more than inputs, in Euclidean norm."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return module.output_size in (1, (1, 1))
    if not isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
        return False
    if isinstance(module, nn.AvgPool2d):
        mean_or_max = module.divisor_override is None
    else:
        mean_or_max = module.dilation in (1, (1, 1))  # apart, the pixels of two windows interleave
    kernel, stride = module.kernel_size, module.stride
    pair = [(v, v) if isinstance(v, int) else tuple(v) for v in (kernel, stride)]
    apart = all(k <= s for k, s in zip(*pair, strict=True))
    return mean_or_max and apart and module.padding in (0, (0, 0))


def _start(name: str, module: nn.Conv2d | nn.Linear, z: Tensor, out: Tensor) -> dict[str, Any]:
    if isinstance(module, nn.Conv2d):
        if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise UnholdableError(
                f"{name!r}: a drift certificate takes convolutions without groups, padded by a number "
                "of zeros"
            )
        ones = z.new_ones(1, z.shape[1], *module.kernel_size)
        squares = F.conv2d(z * z, ones, None, module.stride, module.padding, module.dilation)
        patches = squares.clamp(min=0).sqrt().flatten(2)
    else:
        if z.ndim != 2:
            raise UnholdableError(f"{name!r} is applied along a dimension: flatten before it")
        patches = z.norm(dim=1)[:, None, None]
    matrix, shift = _folded(module, None)
    return {
        "name": name,
        "module": module,
        "norm": None,
        "site": None,
        "matrix": matrix,
        "shift": shift,
        "patches": patches,
        "size": z.flatten(1).norm(dim=1),
        "margins": None,
        "positions": out[0].numel() // out.shape[1],
    }
