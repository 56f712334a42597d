import random

import numpy as np
import torch

from twostroke.processes import Processes
from twostroke.runs import Part


class One(Processes):
    """One of several, whose sums are its own; the test adds them up."""

    def __init__(self, index, count):
        self.index, self.count = index, count


def seed(number):
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)
    random.gauss(), np.random.randn()  # each keeps a second one for later


def drawn():
    own = random.gauss(), random.random(), np.random.randn(), np.random.rand()
    return [*own, *torch.rand(3).tolist()]


def test_each_process_gets_its_own_back_and_any_number_goes_on():
    cpu, draws, parts = torch.device("cpu"), [], []
    for index in range(2):
        seed(index)
        part = Part("held", 1)
        part.collect(torch.tensor(0.1 + index), 30 + index, cpu, One(index, 2))
        parts.append(part)
        draws.append(drawn())
    whole = Part("held", 1, sums=sum(part.sums for part in parts))
    whole.generators = {k: sum(part.generators[k] for part in parts) for k in parts[0].generators}
    for index in (1, 0):
        loss, visits = whole.give(cpu, One(index, 2))
        assert (loss, visits) == (torch.tensor(0.1 + index), 30 + index)
        assert loss.dtype == torch.float32
        assert drawn() == draws[index]
    # in another number of processes the main one has the sums
    found = [whole.give(cpu, One(index, 3)) for index in range(3)]
    assert [visits for _, visits in found] == [61, 0, 0]
    assert float(found[0][0]) == torch.tensor(1.2, dtype=torch.float32)
