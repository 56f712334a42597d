"""The processes of a run: one, or several.

`base` what training asks of them, and the case of one · `several` what PyTorch adds up between them ·
`launch` which there are: whoever started this program says so.
"""

from .base import ONE, Processes
from .launch import launched, processes_of, speaks

__all__ = ["ONE", "Processes", "launched", "processes_of", "speaks"]
