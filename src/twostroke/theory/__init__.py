"""What is true of a network once its support is held, and what of §3.2–3.3 of the paper holds.

`linear_map` the affine map of each example, with attribution · `affine` what would not be affine ·
`operator` the base of all operators · `chain` a plain network as bilinear links · `lifted` U of
eq. 14–20 · `paths` U without its structural zero columns · `lifting` eq. 18, 25, 28 · `rip` eq. 29
and restricted isometry, searched in `restricted` · `recovery/` solvers of P1–P3 · `deep` P1 for any depth ·
`teacher_student` recovery of whole networks, support given or not.

Imports torch and the support core only.
"""

from .chain import Chain, Link, chain, lifted_weights, weight_vectors
from .deep import DeepSolution, oriented, recover_weights
from .lifted import LiftedOperator, lifted_operator
from .lifting import Unlifted, lift, lifting, unlift, unlift_blocks, unvec, vec
from .linear_map import Attribution, LinearMap, linear_map
from .operator import DenseOperator, LinearOperator, gaussian_operator
from .paths import PathOperator, path_operator
from .recovery import (
    AlternatingLeastSquares,
    FactoredDescent,
    Factors,
    GaussNewton,
    LevenbergMarquardt,
    NuclearNorm,
    PhaseDiagram,
    PhasePoint,
    Problem,
    Result,
    SingularValueProjection,
    Solution,
    Solver,
    State,
    phase_diagram,
    recover,
    start_factors,
)
from .restricted import Restricted, restricted, restricted_products
from .rip import RipReport, rip
from .teacher_student import StudentRun, TeacherStudent, plain_network, teacher_student

__all__ = [
    "AlternatingLeastSquares",
    "Attribution",
    "Chain",
    "DeepSolution",
    "DenseOperator",
    "FactoredDescent",
    "Factors",
    "GaussNewton",
    "LevenbergMarquardt",
    "LiftedOperator",
    "LinearMap",
    "LinearOperator",
    "Link",
    "NuclearNorm",
    "PathOperator",
    "PhaseDiagram",
    "PhasePoint",
    "Problem",
    "Restricted",
    "Result",
    "RipReport",
    "SingularValueProjection",
    "Solution",
    "Solver",
    "State",
    "StudentRun",
    "TeacherStudent",
    "Unlifted",
    "chain",
    "gaussian_operator",
    "lift",
    "lifted_operator",
    "lifted_weights",
    "lifting",
    "linear_map",
    "oriented",
    "path_operator",
    "phase_diagram",
    "plain_network",
    "recover",
    "recover_weights",
    "restricted",
    "restricted_products",
    "rip",
    "start_factors",
    "teacher_student",
    "unlift",
    "unlift_blocks",
    "unvec",
    "vec",
    "weight_vectors",
]
