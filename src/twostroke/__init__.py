"""Twostroke trains convolutional networks in two alternating strokes.

The support stroke finds which units of every layer are on for every training example; the weight
stroke holds that support fixed, so that the network is linear, and descends on the weights.

    support = twostroke.record(model, x)         # support stroke on a batch
    with twostroke.hold(model, support):         # weight stroke: same module, same parameters
        loss_fn(model(x), y).backward()

    result = twostroke.fit(model, data, alternation=twostroke.InstanceWise())

The support may also be given by another, trained network:

    guide = twostroke.Guide.record(teacher, images)      # one bit a unit, and the teacher's outputs
    result = twostroke.distill(student, guide, images)   # a fresh or smaller network, without labels

What a run has trained is there to be used:

    model = twostroke.load("runs/a")             # in evaluation mode, with .classes and .preprocess
    scores = model(model.preprocess("cat.jpg")[None])

`theory`, `solvers`, `sparsity`, `study`, `store` and `runs` are rooms of their own:
`twostroke.theory.linear_map`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from ._face import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        # PyTorch takes seconds to load, and `twostroke --help` does without
        face = import_module("._face", __name__)
        if not hasattr(face, name):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(face, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *import_module("._face", __name__).__all__})
