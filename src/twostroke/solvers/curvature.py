"""Second derivatives of the held objective by one layer's weights: exact, at the cost of a gradient.

Held, the network's output is `f(w) = J w + c` in one layer's weights w, so that J is the same wherever
it is taken, and the Hessian of the loss by w is `Jᵀ H_loss J` with nothing left out (Gauss–Newton is
Newton). Hence one forward pass at `w + s u` does for both halves of a product: `J u = (f(w + s u) - f(w)) / s`
is exact up to rounding, and the backward pass of the same graph is Jᵀ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import UnholdableError
from .held_loss import Block, HeldLoss, Look, Loss, Part


class Curvature:
    """Products with the Hessian by one block, at the point of a `Look`.

    `along` holds J u of the last product, one tensor a part.
    """

    def __init__(self, problem: HeldLoss, block: Block, look: Look) -> None:
        self.problem, self.block, self.look = problem, block, look
        self.w = flat(problem.copy(block.names), block.names)
        self.along: list[Tensor] = []

    def product(self, u: Tensor) -> Tensor:
        """`(Jᵀ H_loss J + weight decay) u`, (n,); one pass."""
        problem = self.problem
        self.along = []
        total = problem.weight_decay * u
        # as long a step as the weights themselves, so that rounding is small against the difference
        scale = (float(self.w.norm()) or 1.0) / (float(u.norm()) or 1.0)
        for part, o in zip(problem.parts, self.look.outputs, strict=True):
            with torch.enable_grad():
                moved = (self.w + scale * u).requires_grad_()
                output = problem.output(part, named(moved, self.block.names, problem.weights))
                t = (output.detach() - o) / scale
                bent = loss_curvature(problem.loss, o, part.y, t)
                (back,) = torch.autograd.grad(
                    output, moved, bent, allow_unused=True, materialize_grads=True
                )
            total = total + len(part.y) / problem.examples * back
            self.along.append(t)
        problem.passes += 1
        return total


def loss_curvature(loss: Loss, output: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """`H_loss t` of the mean loss by the outputs, of their shape."""
    with torch.enable_grad():
        o = output.detach().requires_grad_()
        (g,) = torch.autograd.grad(loss(o, y), o, create_graph=True)
        if not g.requires_grad:  # a loss that is linear in the outputs
            return torch.zeros_like(t)
        (bent,) = torch.autograd.grad(g, o, t, allow_unused=True, materialize_grads=True)
    return bent


def flat(tensors: dict[str, Tensor], names: Sequence[str]) -> Tensor:
    """One vector of some tensors, in this order."""
    return torch.cat([tensors[name].reshape(-1) for name in names])


def named(vector: Tensor, names: Sequence[str], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `flat`; shapes are those of `like`."""
    shapes = [like[name].shape for name in names]
    pieces = vector.split([shape.numel() for shape in shapes])
    return {n: p.view(s) for n, p, s in zip(names, pieces, shapes, strict=True)}


def refuse_crooked(problem: HeldLoss, blocks: Sequence[Block], examples: int = 4) -> None:
    """Raise `UnholdableError` for layers in which the held network is not affine, found by a random step.

    Three forward passes of a few examples a layer.
    """
    whole = problem.parts[0]
    part = Part(whole.x[:examples], whole.y[:examples], whole.support[: len(whole.x[:examples])])
    draw = torch.Generator().manual_seed(0)
    with problem.solving():
        middle = problem.output(part, {})
        for block in blocks:
            w = flat(problem.copy(block.names), block.names)
            u = torch.randn(w.shape, generator=draw).to(w)
            u *= (float(w.norm()) or 1.0) / float(u.norm())
            ahead = problem.output(part, named(w + u, block.names, problem.weights))
            behind = problem.output(part, named(w - u, block.names, problem.weights))
            scale = torch.stack([middle.abs().max(), ahead.abs().max(), behind.abs().max()]).max()
            bend = float((ahead + behind - 2 * middle).abs().max())
            if bend > 4 * torch.finfo(w.dtype).eps ** 0.5 * float(scale):
                raise UnholdableError(
                    f"the held network is not affine in the weights of "
                    f"{block.layer or 'the model itself'}: a random step misses the straight line by "
                    f"{bend / float(scale):.1e} of the output, so that they cannot be solved for. Are they "
                    "used more than once, is max pooling not held (pooling=True), or does a normalisation "
                    "depend on its input? Use LBFGS, or steps of an optimiser"
                )
