"""Dense-sparse-dense training: prune weights for a while, then let them return (Table 8).

- `driver`: `dense_sparse_dense`, three calls of `fit`; `result`: what it returns; `kept`: its folder
- `masks`: `Magnitude`, `Connections`, `NoMask`, and their names; `carried`: what a weight carries
- `units`: `Units`, the reading in which units are masked and their connections rest
- `masked`: training under fixed masks
- `layers`: which weights, how sparse; `reach`: whether a mask reaches what a layer computes with
- `recipes`: published lengths and learning rates of the phases
"""

from .driver import dense_sparse_dense
from .layers import Sparsity, apply_masks, sparsity, weighted_layers
from .masked import Masked
from .masks import MASKS, Connections, Magnitude, NoMask, WeightMask
from .recipes import RECIPES, Recipe, recipe
from .result import DenseSparseDenseResult, PhaseResult
from .units import PassedEnergy, Units

__all__ = [
    "MASKS",
    "RECIPES",
    "Connections",
    "DenseSparseDenseResult",
    "Magnitude",
    "Masked",
    "NoMask",
    "PassedEnergy",
    "PhaseResult",
    "Recipe",
    "Sparsity",
    "Units",
    "WeightMask",
    "apply_masks",
    "dense_sparse_dense",
    "recipe",
    "sparsity",
    "weighted_layers",
]
