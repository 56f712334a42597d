"""What is true of a network once its support is held, and what of §3.2–3.3 of the paper holds.

`linear_map` the affine map of each example, with attribution · `affine` refuses what would not be affine ·
`operator` the base of all operators · `chain` a plain network as bilinear links · `lifted` U of
eq. 14–20 · `paths` U without its structural zero columns · `lifting` eq. 18, 25, 28 · `rip` eq. 29
and restricted isometry, searched in `restricted` · `problem` and `recovery` P1–P3 by the `least_squares` of
Levenberg and Marquardt, `deep` P1 for any depth · `teacher_student` recovery of whole networks, support given
or not · `half_spaces` a unit's weights from its bits alone, `layerwise` a whole network from its bits, layer
by layer, in the gauge of `gauge`.

Exported is what a user types; types of results and helpers are in their modules. Imports torch and the
support core only.
"""

from .chain import chain, lifted_weights, weight_vectors
from .deep import oriented, recover_weights
from .half_spaces import half_spaces
from .layerwise import rebuild
from .lifted import lifted_operator
from .lifting import unlift_blocks
from .linear_map import linear_map
from .operator import DenseOperator, LinearOperator, gaussian_operator
from .paths import path_operator
from .problem import Problem
from .recovery import recover
from .rip import rip
from .teacher_student import plain_network, teacher_student

__all__ = [
    "DenseOperator",
    "LinearOperator",
    "Problem",
    "chain",
    "gaussian_operator",
    "half_spaces",
    "lifted_operator",
    "lifted_weights",
    "linear_map",
    "oriented",
    "path_operator",
    "plain_network",
    "rebuild",
    "recover",
    "recover_weights",
    "rip",
    "teacher_student",
    "unlift_blocks",
    "weight_vectors",
]
