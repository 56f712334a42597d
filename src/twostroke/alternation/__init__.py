"""Alternation: which stroke is on, when a weight stroke ends, and what is held meanwhile.

`alternator` what a training loop asks, and `Live`, no alternation · `instance_wise`, with its state machine
in `rounds`, and `batch_wise`: the paper's two kinds · `plateau` when the loss no longer falls · `owned_masks`
where an example's mask is kept · `fingerprint` what a mask is of · `statistics` batch norm's, before a sweep.
Each kind is a class of settings, checked at construction, and the state machine that its `start` makes.

A loop of one's own asks it at these places:

    alternator = ts.InstanceWise(warmup=2, gap=3).start(model, source)
    for epoch in range(epochs):
        alternator.begin_epoch(epoch)
        for step, indices in enumerate(batches):
            x, y = source.batch(indices, view=alternator.view)
            with alternator.step(indices, step / len(batches)):
                loss = loss_fn(model(x), y)
                if (penalty := alternator.penalty()) is not None:
                    loss = loss + penalty
            ...
            alternator.after_step()
        alternator.end_epoch(mean_loss)
    alternator.close()
"""

from .alternator import Alternation, Alternator, Given, Live, Phase
from .batch_wise import BatchWise
from .instance_wise import InstanceWise
from .plateau import Plateau

__all__ = [
    "Alternation",
    "Alternator",
    "BatchWise",
    "Given",
    "InstanceWise",
    "Live",
    "Phase",
    "Plateau",
]
