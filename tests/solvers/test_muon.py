import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from twostroke.errors import SettingsError
from twostroke.solvers import Muon, muon, orthogonalise


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12), st.integers(0, 999))
def test_orthogonalise_keeps_singular_vectors_and_levels_the_values(count, rows, columns, seed):
    torch.manual_seed(seed)
    u, _, vt = torch.linalg.svd(torch.randn(count, rows, columns).double(), full_matrices=False)
    s = torch.rand(count, min(rows, columns)).double() * 0.8 + 0.2
    g = u @ torch.diag_embed(s) @ vt
    out = orthogonalise(g)
    inner = u.mT @ out @ vt.mT
    values = inner.diagonal(dim1=1, dim2=2)
    assert (inner - torch.diag_embed(values)).abs().max() < 1e-10  # same singular vectors
    assert ((values > 0.6) & (values < 1.25)).all()
    for one, all_ in zip(g, out, strict=True):  # together or one by one
        assert torch.allclose(orthogonalise(one[None])[0], all_, atol=1e-12)


def test_on_matrices_it_is_torch_s_own():
    torch.manual_seed(0)
    weights = [torch.randn(6, 4), torch.randn(4, 6), torch.randn(6, 4)]
    ours = [nn.Parameter(w.clone()) for w in weights]
    theirs = [nn.Parameter(w.clone()) for w in weights]
    a = Muon(ours, lr=0.03, momentum=0.9, weight_decay=0.1)
    b = torch.optim.Muon(theirs, lr=0.03, momentum=0.9, weight_decay=0.1)
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        # torch iterates in bfloat16, of eight bits, and adds four steps of 0.03 up
        assert torch.allclose(p, q, atol=4 * 0.03 * 0.03)


def test_the_rest_goes_by_sgd():
    p = nn.Parameter(torch.zeros(3))
    q = nn.Parameter(torch.zeros(3))
    a = Muon([p], lr=0.1, momentum=0.5, rest=2.0, weight_decay=0.3)
    b = torch.optim.SGD([q], lr=0.2, momentum=0.5, nesterov=True)
    for _ in range(3):
        p.grad = torch.randn(3)
        q.grad = p.grad.clone()
        a.step()
        b.step()
    assert torch.allclose(p, q)


def test_spectral_norm_of_a_step_is_what_lr_says():
    p = nn.Parameter(torch.zeros(8, 3, 3, 3))
    p.grad = torch.randn(8, 3, 3, 3)
    Muon([p], lr=0.1).step()
    norm = torch.linalg.matrix_norm(p.detach().view(8, 27), 2)
    assert 0.06 < norm < 0.125


def test_more_rows_than_columns_step_further():
    torch.manual_seed(0)
    p = nn.Parameter(torch.zeros(32, 2, 2, 2))
    p.grad = torch.randn(32, 2, 2, 2)
    Muon([p], lr=0.1).step()
    # Nesterov's first step is 1.9 times the gradient, of which the norm does not matter
    (expected,) = orthogonalise(p.grad.view(1, 32, 8)) * -0.1 * 2  # √(32 / (2 · 4)) = 2
    assert torch.allclose(p.detach().view(32, 8), expected, atol=1e-6)


def test_weights_that_are_channels_last_move_alike():
    torch.manual_seed(0)
    start, gradients = torch.randn(8, 3, 3, 3), torch.randn(3, 8, 3, 3, 3)
    plain = nn.Parameter(start.clone())
    last = nn.Parameter(start.clone(memory_format=torch.channels_last))
    for p in (plain, last):
        optimizer = Muon([p], weight_decay=0.1)
        for gradient in gradients:
            p.grad = torch.empty_like(p).copy_(gradient)
            optimizer.step()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(plain, last, atol=1e-6)


def test_a_closure_recomputes_gradients_and_gives_the_loss():
    p, q = (nn.Parameter(torch.ones(3, 2)) for _ in range(2))
    optimizer = Muon([p])

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 6
    q.grad = torch.full((3, 2), 2.0)
    Muon([q]).step()
    assert torch.equal(p, q)


def test_small_singular_values_stay_small():
    values = torch.tensor([1.0, 0.0016, 1e-5], dtype=torch.float64)
    out = orthogonalise(values.diag()[None])[0].diagonal()
    assert ((out[:2] > 0.68) & (out[:2] < 1.21)).all()
    assert 0 < out[2] <= 1e-5 * 3.4445**5


def test_parameters_without_gradient_stay():
    p, q = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    p.grad = torch.randn(2, 2)
    Muon([p, q]).step()
    assert torch.equal(q, torch.ones(2, 2))
    assert not torch.equal(p, torch.ones(2, 2))


def test_settings_are_checked():
    wrongs = [{"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -1.0}, {"rest": -1.0}]
    wrongs += [{"lr": math.inf}, {"lr": math.nan}, {"steps": 0}, {"steps": -1}, {"block": 2.5}]
    for wrong in wrongs:
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            Muon([nn.Parameter(torch.ones(2, 2))], **wrong)
        with pytest.raises(SettingsError, match=next(iter(wrong))):  # a group's own
            Muon([{"params": [nn.Parameter(torch.ones(2, 2))], **wrong}])


def test_it_goes_on_from_its_state():
    torch.manual_seed(0)
    start, gradients = torch.randn(3, 2), torch.randn(4, 3, 2)
    whole, begun = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    one, two = Muon([whole]), Muon([begun])

    def steps(optimizer, p, gradients):
        for gradient in gradients:
            p.grad = gradient.clone()
            optimizer.step()

    steps(one, whole, gradients)
    steps(two, begun, gradients[:2])
    resumed = nn.Parameter(begun.detach().clone())
    three = Muon([resumed], lr=1.0)
    three.load_state_dict(two.state_dict())
    steps(three, resumed, gradients[2:])
    assert torch.equal(whole, resumed)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 12), st.integers(1, 40), st.integers(1, 5), st.integers(0, 99)
)
def test_the_product_of_factors_is_the_iteration(count, rows, columns, steps, seed):
    torch.manual_seed(seed)
    fall = torch.logspace(0, -3, rows)[:, None]  # ill-conditioned
    x = fall * torch.randn(count, rows, columns)
    x = x / x.flatten(1).norm(dim=1).view(-1, 1, 1)
    exact = muon._by_steps(x.double(), steps)
    assert torch.allclose(muon._factor(x.double(), steps) @ x.double(), exact, atol=1e-9)
    assert torch.allclose((muon._factor(x, steps) @ x).double(), exact, atol=2e-3)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=4),
    st.integers(1, 7),
    st.sampled_from([5, 6]),  # both ways of the iteration
    st.sampled_from(["plain", "last", "strided", "gradient last"]),
    st.integers(0, 99),
)
def test_blocks_move_as_matrices_of_their_own(shape, block, steps, layout, seed):
    torch.manual_seed(seed)
    start = torch.randn(*shape).double()
    gradients = torch.randn(2, *shape).double()
    if layout == "strided":
        p = nn.Parameter(torch.stack([start, start], dim=-1)[..., 0])
    elif layout == "last":
        p = nn.Parameter(start.movedim(1, -1).contiguous().movedim(-1, 1))
    else:
        p = nn.Parameter(start.clone())
    optimizer = Muon([p], lr=0.1, momentum=0.5, weight_decay=0.3, steps=steps, block=block)
    rows, columns = len(start), start[0].numel()
    expected, momentum = start.view(rows, columns).clone(), torch.zeros(rows, columns).double()
    for gradient in gradients:
        last = layout == "gradient last"
        p.grad = gradient.movedim(1, -1).contiguous().movedim(-1, 1) if last else gradient.clone()
        optimizer.step()
        flat = gradient.view(rows, columns)
        momentum = 0.5 * momentum + flat
        update = flat + 0.5 * momentum
        update = update.mT if rows > columns else update
        parts = math.ceil(len(update) / block)
        pieces = update.split(math.ceil(len(update) / parts))
        moved = torch.cat([orthogonalise(piece[None], steps)[0] for piece in pieces])
        moved = moved.mT if rows > columns else moved
        expected = (1 - 0.03) * expected - 0.1 * math.sqrt(max(1, rows / columns)) * moved
    assert torch.allclose(p.detach().reshape(rows, columns), expected, atol=1e-9)


def test_weights_of_many_parts_are_worked_on_in_turns(monkeypatch):
    torch.manual_seed(0)
    start = [torch.randn(9, 20), torch.randn(9, 20), torch.randn(3, 3)]
    ends = []
    for at_once in (1, 100, 1 << 20):
        monkeypatch.setattr(muon, "_AT_ONCE", at_once)
        weights = [nn.Parameter(w.clone()) for w in start]
        for p in weights:
            p.grad = p.detach().clone()
        Muon(weights, block=3).step()
        ends.append(weights)
    for weights in ends[1:]:
        assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(weights, ends[0], strict=True))


@pytest.mark.parametrize("steps", [5, 10, 20])
def test_matrices_of_low_rank_stay_bounded(steps):
    torch.manual_seed(0)
    x = torch.randn(1, 64, 8) @ torch.randn(1, 8, 576)
    assert torch.linalg.matrix_norm(orthogonalise(x, steps), 2) < 1.25
