"""The support core: find the sites of a model, record their masks, hold them.

`sites` what a site is · `activations` kinds of site, one a file, and how to add one · `rules` closed
forms from pre-activation to mask · `record` the support stroke · `hold` the weight stroke · `check`
whether a model is held exactly · `compiled` the weight stroke under `torch.compile` · `support` packed
masks · `bits` packing, `kernels` its fused forms on a CPU, `gpu` those on a GPU, written in
`triton_kernels`, `layouts` which tensors they take · `intercept` how a model is followed without a
change to it, `eagerly` also where it is compiled · `watch` refusal of what cannot be held · `modules`
names and order of a model's parts, `modes` their training mode · `hard_threshold` eq. 9 as an
activation.

Imports torch and the standard library only (safetensors when a support is saved or loaded).
"""

from .activations import register
from .check import Check, check
from .compiled import CompiledHold, compile_held
from .hard_threshold import HardThreshold, hard_threshold
from .hold import Held, hold
from .record import Recorder, record, recording, sites
from .rules import BatchEnergy, Energy, MajorityVote, PositiveThreshold, Rule
from .sites import Site
from .support import Share, Support

__all__ = [
    "BatchEnergy",
    "Check",
    "CompiledHold",
    "Energy",
    "HardThreshold",
    "Held",
    "MajorityVote",
    "PositiveThreshold",
    "Recorder",
    "Rule",
    "Share",
    "Site",
    "Support",
    "check",
    "compile_held",
    "hard_threshold",
    "hold",
    "record",
    "recording",
    "register",
    "sites",
]
