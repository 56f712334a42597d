"""Solvers: what a weight stroke may use beside a torch optimiser of your choice.

`spectral` steepest descent in the spectral norm (Muon), batched over layers of one shape.
"""

from .spectral import Muon, orthogonalise

__all__ = ["Muon", "orthogonalise"]
