"""Recovery of weights given their support (§3.3): problems P1–P3, their solvers, one driver.

`problem` what is solved · `driver` `recover`, `Solution`, `Result` · one method a file: `descent`
(the theorem's), `alternating`, `newton`, `projection`, `nuclear` · `phase` success over
measurements.
"""

from .alternating import AlternatingLeastSquares
from .descent import FactoredDescent
from .driver import Result, Solution, Solver, State, recover, start_factors
from .newton import GaussNewton, LevenbergMarquardt
from .nuclear import NuclearNorm
from .phase import PhaseDiagram, PhasePoint, phase_diagram
from .problem import Factors, Problem
from .projection import SingularValueProjection

__all__ = [
    "AlternatingLeastSquares",
    "FactoredDescent",
    "Factors",
    "GaussNewton",
    "LevenbergMarquardt",
    "NuclearNorm",
    "PhaseDiagram",
    "PhasePoint",
    "Problem",
    "Result",
    "SingularValueProjection",
    "Solution",
    "Solver",
    "State",
    "phase_diagram",
    "recover",
    "start_factors",
]
