import pytest
import torch

from twostroke.errors import SettingsError
from twostroke.training import Settings
from twostroke.training.order import epoch_order


def drawn(order, examples, seed=0):
    return epoch_order(order, examples, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("order", ["shuffle", "balanced"])
@pytest.mark.parametrize("examples", [1, 2, 3, 25, 256, 1000, 1027])
def test_every_example_once_and_another_order_for_another_seed(order, examples):
    visited = drawn(order, examples)
    assert torch.equal(visited.sort().values, torch.arange(examples))
    assert torch.equal(visited, drawn(order, examples))
    if examples > 20:
        assert not torch.equal(visited, drawn(order, examples, seed=1))


@pytest.mark.parametrize("examples", [40, 1000, 1027])
@pytest.mark.parametrize("processes", [1, 2, 8, 32])
def test_balanced_runs_have_each_residue_once(examples, processes):
    window = min(256, 1 << (examples.bit_length() - 1))
    whole = drawn("balanced", examples)[: examples // window * window]
    runs = whole.view(-1, processes) % processes
    assert torch.equal(runs.sort(1).values, torch.arange(processes).expand_as(runs))


def test_balanced_is_random_within_its_runs():
    """Over many draws each example is as often at each place as at any other."""
    draw = torch.Generator().manual_seed(0)
    seen = torch.zeros(12, 12)
    for _ in range(4000):
        seen[torch.arange(12), epoch_order("balanced", 12, draw)] += 1
    # eight residues: the first eight places have one each, the four that are left over have the rest
    first, last = seen[:8] / 4000, seen[8:] / 4000
    assert first[:, :4] == pytest.approx(torch.full((8, 4), 1 / 16), abs=0.02)
    assert first[:, 4:8] == pytest.approx(torch.full((8, 4), 1 / 8), abs=0.02)
    assert last[:, :4] == pytest.approx(torch.full((4, 4), 1 / 8), abs=0.02)
    assert last[:, 4:8].sum() == 0


def test_an_order_that_does_not_exist_is_refused():
    with pytest.raises(SettingsError, match="balanced"):
        Settings(order="balansed")
