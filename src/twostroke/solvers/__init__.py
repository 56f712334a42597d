"""Solvers of a weight stroke: Muon, an optimiser; and leaves that solve a whole held problem.

`muon` steepest descent in the spectral norm, step by step, as torch's optimisers are.

No other room imports the rest. Each works on all examples at once, with the support held: `held_loss` is the
objective; `block_sweep` solves for one layer after another, by the exact products of `curvature` and
`conjugate` gradients; `lbfgs` moves all layers at once; `lagrangian` splits the pre-activations off, for the
chains that `stages` reads. `result` is what each of them returns.

    problem = HeldLoss.of(model.eval(), record(model, x), x, y)
    result = BlockSweep(sweeps=3).solve(problem)      # the weights are changed in place
    print(result.message)
"""

from .block_sweep import BlockSweep
from .held_loss import HeldLoss
from .lagrangian import AugmentedLagrangian
from .lbfgs import LBFGS
from .muon import Muon, orthogonalise
from .result import StrokeResult

__all__ = [
    "LBFGS",
    "AugmentedLagrangian",
    "BlockSweep",
    "HeldLoss",
    "Muon",
    "StrokeResult",
    "orthogonalise",
]
