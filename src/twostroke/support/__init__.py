"""The support core: find the sites of a model, record their masks, hold them.

`sites` what a site is · `activations` the switching functions, their pieces and how each is held ·
`rules` closed forms from pre-activation to mask · `record` support stroke · `hold` weight stroke ·
`compiled` the same under `torch.compile` · `support` the packed masks · `bits` packing, `kernels` its
fused forms on a CPU, `gpu` those on a GPU, written in `triton_kernels` · `intercept` how a model is
followed without being touched · `watch` refusal of what cannot be held · `hard_threshold` eq. 9 as an
activation.

Imports torch and the standard library only (safetensors when a support is saved or loaded).
"""

from .compiled import CompiledHold, compile_held
from .hard_threshold import HardThreshold, hard_threshold
from .hold import Held, hold
from .record import Recorder, record, recording, sites
from .rules import BatchEnergy, Energy, MajorityVote, PositiveThreshold, Rule
from .sites import Site
from .support import Share, Support
from .swap import use_hard_threshold

__all__ = [
    "BatchEnergy",
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
    "compile_held",
    "hard_threshold",
    "hold",
    "record",
    "recording",
    "sites",
    "use_hard_threshold",
]
