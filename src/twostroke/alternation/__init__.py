"""Alternation: which stroke is on, when a weight stroke ends, and what is held meanwhile.

`kinds` the settings of each kind of alternation · `ends` when a weight stroke ends · `alternator` the state
machine that a training loop asks before each epoch and each step, with one class a kind.

A loop of one's own needs four calls:

    alternator = ts.InstanceWise(warmup=2, gap=3).start(model, source)
    for epoch in range(epochs):
        alternator.begin_epoch(epoch)
        for indices in batches:
            x, y = source.batch(indices, view=alternator.view)
            with alternator.step(indices):
                loss = loss_fn(model(x), y)
            ...
        alternator.end_epoch(mean_loss)
"""

from .alternator import Alternator, Phase
from .ends import Plateau
from .kinds import Alternation, BatchWise, InstanceWise, Live

__all__ = ["Alternation", "Alternator", "BatchWise", "InstanceWise", "Live", "Phase", "Plateau"]
