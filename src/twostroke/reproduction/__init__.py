"""The paper's tables and figures by name.

- `published`: what the paper prints · `tasks`: what it trains, at three scales
- `cells`: one arm with one seed, kept as one JSON file · `driver`: `reproduce`
- `summary`: means, spreads, convergence · `render`: Markdown, JSON, PNG
"""

from .cells import Cell, Stopped
from .driver import Reproduction, Watcher, reproduce
from .published import EXPERIMENTS, Experiment, Line
from .tasks import SCALES, TASKS, Task

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "TASKS",
    "Cell",
    "Experiment",
    "Line",
    "Reproduction",
    "Stopped",
    "Task",
    "Watcher",
    "reproduce",
]
