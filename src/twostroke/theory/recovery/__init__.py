"""Recovery of weights given their support (§3.3): problems P1–P3, their solvers, one driver.

`problem` what is solved · `driver` `recover`, `Solution`, `Solver` · one method a file: `descent`
(the theorem's), `alternating`, `newton`, `projection`, `nuclear` · `phase` success over
measurements.
"""

from .alternating import AlternatingLeastSquares
from .descent import FactoredDescent
from .driver import Solution, Solver, recover
from .newton import GaussNewton, LevenbergMarquardt
from .nuclear import NuclearNorm
from .phase import PhaseDiagram, phase_diagram
from .problem import Problem
from .projection import SingularValueProjection

__all__ = [
    "AlternatingLeastSquares",
    "FactoredDescent",
    "GaussNewton",
    "LevenbergMarquardt",
    "NuclearNorm",
    "PhaseDiagram",
    "Problem",
    "SingularValueProjection",
    "Solution",
    "Solver",
    "phase_diagram",
    "recover",
]
