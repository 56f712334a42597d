"""Solvers: what a weight stroke may use beside a torch optimiser of your choice.

`spectral` steepest descent in the spectral norm (Muon), an optimiser as torch's are, step by step.

Stroke by stroke, on all examples at once: `held_loss` the objective · `block_sweep` one layer after
another, each a convex problem, by the exact products of `curvature` and `conjugate` gradients · `lbfgs`
all layers at once · `lagrangian` pre-activations split off, for the chains that `stages` reads · `result` what
each of them returns.

    problem = HeldLoss.of(model.eval(), record(model, x), x, y)
    result = BlockSweep(sweeps=3).solve(problem)      # the weights are changed in place
    print(result)
"""

from .block_sweep import BlockSweep
from .held_loss import HeldLoss, Part
from .lagrangian import AugmentedLagrangian
from .lbfgs import LBFGS
from .result import Callback, Point, StrokeCode, StrokeResult
from .spectral import Muon, orthogonalise
from .stroke_solver import StrokeSolver

__all__ = [
    "LBFGS",
    "AugmentedLagrangian",
    "BlockSweep",
    "Callback",
    "HeldLoss",
    "Muon",
    "Part",
    "Point",
    "StrokeCode",
    "StrokeResult",
    "StrokeSolver",
    "orthogonalise",
]
