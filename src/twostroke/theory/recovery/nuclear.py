"""Nuclear norm minimisation by an augmented Lagrangian: the convex relaxation of P3."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .driver import Solver, State
from .problem import Factors, Problem, truncated


@dataclass(frozen=True)
class NuclearNorm(Solver):
    """`min Σ ‖V_i‖_* subject to U F(V) = y`, by alternating directions (ADMM).

    One side shrinks singular values, the other projects onto the measurements by a factorisation of
    U Uᵀ that is made once. What is reported is the part of the problem's rank; where the
    relaxation is not tight its residual stays large. Convex, so that the start does not matter,
    but it needs about twice the measurements of the factored methods, and thousands of cheap
    steps. `shrink` is the threshold relative to the largest singular value of the least-norm
    solution.
    """

    shrink: float = 0.1
    patience: int = 300

    def init(self, problem: Problem, start: Factors) -> State:
        """Factor U Uᵀ; begin at the least-norm solution."""
        A = problem.matrix.flatten(1)
        left, s, right = torch.linalg.svd(A, full_matrices=False)
        keep = s > torch.finfo(s.dtype).eps * max(A.shape) * s[:1].sum()
        right = right[keep]  # orthonormal basis of U's row space
        fit = (right.mT @ ((left.mT @ problem.y)[keep] / s[keep])).view(problem.blocks)
        tau = self.shrink * float(torch.linalg.matrix_norm(fit, 2).max())
        factors = truncated(fit, problem.rank)
        memory = {"rows": right, "fit": fit, "Z": fit, "dual": torch.zeros_like(fit), "tau": tau}
        return State(factors, problem.residual(factors.product), memory)

    def step(self, problem: Problem, state: State) -> State:
        """Shrink, project, and move the multiplier."""
        memory = state.memory
        left, s, right = torch.linalg.svd(memory["Z"] - memory["dual"], full_matrices=False)
        V: Tensor = left @ ((s - memory["tau"]).clamp_min(0)[..., None] * right)
        relaxed = 1.6 * V - 0.6 * memory["Z"]
        W = relaxed + memory["dual"]
        rows = memory["rows"]
        outside = W.reshape(-1) - rows.mT @ (rows @ W.reshape(-1))
        Z = outside.view_as(W) + memory["fit"]
        factors = truncated(V, problem.rank)
        memory = {**memory, "Z": Z, "dual": W - Z}
        return State(factors, problem.residual(factors.product), memory)
