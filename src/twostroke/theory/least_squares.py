"""Levenberg–Marquardt: nonlinear least squares with few unknowns, by the Jacobian's singular values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..outcome import Status

TRIES = 12  # dampings within a step
PATIENCE = 40  # steps in which the residual must fall by 1 %


class Fit(NamedTuple):
    """Where the descent ended; `residuals` are ‖r‖ / scale at the start and after each step."""

    w: Tensor
    residuals: tuple[float, ...]
    status: Status


def levenberg_marquardt(
    misfit: Callable[[Tensor], Tensor],
    jacobian: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    scale: float,
    rtol: float,
    max_steps: int,
) -> Fit:
    """`min ‖misfit(w)‖²` from `start` (n,); `misfit(w)` is (rows,), `jacobian(w)` (rows, n).

    A step is taken only if the residual falls, so that it never rises. Of all steps of one length the
    least-norm one is taken, since neither problem here has a Jacobian of full rank: scales between layers
    are free. The damping falls by five after a success and rises by four after a refusal.
    """
    w, r = start, misfit(start)
    residuals = [float(r.norm()) / scale]
    status, damping, mark, marked = Status.LIMIT, 1e-3, residuals[0], 0
    for step in range(max_steps + 1):
        if residuals[-1] <= rtol:
            status = Status.CONVERGED
            break
        if not math.isfinite(residuals[-1]):
            status = Status.DIVERGED
            break
        if residuals[-1] < 0.99 * mark:
            mark, marked = residuals[-1], step
        if step - marked > PATIENCE:
            status = Status.STALLED
            break
        if step == max_steps:
            break
        J, target = jacobian(w), -r
        if J.shape[0] > J.shape[1]:  # the same problem in as many rows as columns
            Q, J = torch.linalg.qr(J)
            target = Q.mT @ target
        left, s, right = torch.linalg.svd(J, full_matrices=False)
        seen = s > torch.finfo(s.dtype).eps * max(J.shape) * s[:1].sum()
        target, unit = left.mT @ target, float(s.square().sum()) / len(w)
        for _ in range(TRIES):
            gain = torch.where(seen, s / (s * s + damping * unit), 0)
            trial = w + right.mT @ (gain * target)
            after = misfit(trial)
            if float(after.norm()) < float(r.norm()):
                w, r, damping = trial, after, max(damping / 5, 1e-18)
                break
            damping *= 4
        residuals.append(float(r.norm()) / scale)
    return Fit(w, tuple(residuals), status)
