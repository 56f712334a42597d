"""Twostroke trains convolutional networks in two alternating strokes.

The support stroke finds which units of every layer are on for every training example; the weight
stroke holds that support fixed, so that the network is linear, and descends on the weights.

    support = twostroke.record(model, x)         # support stroke on a batch
    with twostroke.hold(model, support):         # weight stroke: same module, same parameters
        loss_fn(model(x), y).backward()
"""

from ._version import __version__
from .support import *  # noqa: F403
from .support import __all__ as _support

__all__ = ["__version__", *_support]
