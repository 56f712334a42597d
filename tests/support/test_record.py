from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.quantization import PerChannelMinMaxObserver

import twostroke as ts
from twostroke.errors import SettingsError, SupportMismatchError, UnholdableError
from twostroke.support import BatchEnergy, Energy, MajorityVote, PositiveThreshold

from .helpers import (
    TWICE_KEYS,
    Call,
    assert_equal_runs,
    images,
    mlp,
    normal,
    run,
    twice,
)


def kept(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def unchanged(net: nn.Module, before: dict[str, Tensor]) -> bool:
    now = net.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[k], v) for k, v in before.items())


# -- what is recorded --------------------------------------------------------------------------------


def test_relus_masks_are_where_the_pre_activation_is_positive() -> None:
    net, x = mlp(5, 8, 6, 3), normal(4, 5)
    support = ts.record(net, x)
    a = net[0](x)
    b = net[2](torch.relu(a))
    assert torch.equal(support["1"], a > 0)
    assert torch.equal(support["3#0"], b > 0)
    assert (len(support), support.shared) == (4, False)


@pytest.mark.parametrize("gated", [False, True])
def test_with_a_rule_the_masked_pre_activation_goes_on(gated: bool) -> None:
    net, x = mlp(5, 8, 6, 3), normal(4, 5)
    rule = Energy(0.2)
    support = ts.record(net, x, rule=rule, gated=gated)
    a = net[0](x)
    z = torch.where(a.square() > 0.2, torch.relu(a) if gated else a, 0.0)
    b = net[2](z)
    assert torch.equal(support["1"], a.square() > 0.2)
    assert torch.equal(support["3"], b.square() > 0.2)
    other = ts.record(net, x, rule=rule, gated=not gated)
    assert torch.equal(other["1"], support["1"])
    assert other != support


@pytest.mark.parametrize("rule", [BatchEnergy(0.3), BatchEnergy(density=0.5), MajorityVote()])
def test_a_rule_for_the_batch_gives_a_shared_support(rule: Any) -> None:
    net, x = mlp(5, 8, 3), normal(4, 5)
    support = ts.record(net, x, rule=rule)
    assert support.shared
    assert len(support) == 1
    assert torch.equal(support["1"], rule(net[0](x)))
    with ts.hold(net, support):
        held = net(normal(7, 5, seed=3))
    q = net[0](normal(7, 5, seed=3))
    assert torch.equal(held, net[2](torch.where(support["1"], q, 0.0)))


def test_one_mask_for_a_batch_has_no_place_for_what_differs_by_example() -> None:
    with pytest.raises(SettingsError, match="pooling=False"):
        ts.record(mlp(5, 8, 3), normal(4, 5), rule=BatchEnergy(0.3), pooling=True)
    for net in (nn.Sequential(nn.Linear(5, 4), nn.ReLU6()), nn.ReLU6()):
        with pytest.raises(UnholdableError, match=r"#0 is a clamp.*hold\(model, rule\)"):
            ts.record(net.double(), normal(4, 5), rule=BatchEnergy(0.3))
    assert ts.record(nn.ReLU6(), normal(1, 5), rule=BatchEnergy(0.3)).shared


def test_pooling_is_recorded_when_asked_for() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.MaxPool2d(2)).double(), images()
    assert [s.key for s in ts.sites(net, x)] == ["1#0"]
    assert [s.key for s in ts.sites(net, x, pooling=True)] == ["1#0", "2#0"]
    assert len(ts.record(net, x, pooling=True).sites) == 2

    # max pooling counts as a call of its module, recorded or not
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.max_pool2d(x, 2) - 0.5)

    for pooling in (False, True):
        assert ts.sites(Both(), x, pooling=pooling)[-1].key == "#1"


@pytest.mark.parametrize("kind", ["tensor", "tuple", "list", "dictionary"])
def test_inputs(kind: str) -> None:
    class Net(nn.Module):
        def forward(self, x: Any, scale: float = 1.0) -> Tensor:
            x = x["x"] if isinstance(x, dict) else x[0] if isinstance(x, list) else x
            return F.relu(x) * scale

    x = normal(3, 4)
    given = {"tensor": x, "tuple": (x, 2.0), "list": [x], "dictionary": {"x": x}}[kind]
    assert torch.equal(ts.record(Net(), given)[""], x > 0)


def test_a_model_without_sites() -> None:
    net = nn.Linear(3, 2).double()
    assert ts.sites(net, normal(2, 3)) == []
    with pytest.raises(SupportMismatchError, match="nothing was recorded"):
        ts.record(net, normal(2, 3))


def test_sites_that_do_not_keep_the_batch() -> None:
    class Folded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.relu(x).view(2, -1))

    with pytest.raises(UnholdableError, match=r"#1 sees a batch of 2 where #0 sees one of 4"):
        ts.record(Folded(), normal(4, 6))


# -- the model stays as it was ----------------------------------------------------------------------


@pytest.mark.parametrize("rule", [None, Energy(0.1), BatchEnergy(0.1)])
def test_recording_in_training_mode_leaves_the_running_statistics(rule: Any) -> None:
    net = twice().train()
    before = kept(net)
    ts.record(net, images(), rule=rule)
    ts.sites(net, images())
    assert unchanged(net, before)
    assert net.training
    net(images())
    assert not unchanged(net, before)


def test_recording_restores_statistics_when_the_model_fails() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("late")

    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), Fails()).double()
    before = kept(net)
    with pytest.raises(RuntimeError, match="late"):
        ts.record(net, images())
    assert unchanged(net, before)


def test_recording_keeps_every_buffer_that_a_forward_pass_changes() -> None:
    class Counts(nn.Module):
        seen: Tensor
        last: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros((), dtype=torch.long))
            self.register_buffer("last", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1
            self.last = x.detach()[0, :2].clone()  # replaced, not changed
            return x

    torch.manual_seed(0)
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
    norms = [nn.BatchNorm1d(4), nn.BatchNorm1d(4, momentum=None), nn.InstanceNorm1d(4)]
    net = nn.Sequential(spectral, Counts(), *norms[:2], nn.ReLU()).double().train()
    before = kept(net)
    ts.record(net, normal(3, 4))
    assert unchanged(net, before)
    assert kept(net).keys() == before.keys()
    net(normal(3, 4))
    assert not any(
        torch.equal(before[key], value)
        for key, value in net.state_dict().items()
        if "running" in key or key.startswith("1.")
    )


class Watching(nn.Module):
    """Keeps what it has met: in a buffer that grows, in one that was None, and in a new one."""

    met: Tensor
    last: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("met", torch.zeros(0))
        self.register_buffer("last", None)

    def forward(self, x: Tensor) -> Tensor:
        self.met.resize_(len(self.met) + len(x)).fill_(1.0)
        self.last = x.detach()
        self.register_buffer("new", x.detach())
        return x


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_buffers_that_change_size_come_back(training: bool, fails: bool) -> None:
    def stop(x: Tensor) -> Tensor:
        if fails:
            raise RuntimeError("late")
        return x

    observer = PerChannelMinMaxObserver(ch_axis=1)
    net = nn.Sequential(nn.Linear(4, 4), observer, Watching(), nn.ReLU(), Call(stop)).double()
    net.train(training)[:3](normal(2, 4))  # has met something before
    before, same = kept(net), dict(net.named_buffers())
    with pytest.raises(RuntimeError, match="late") if fails else nullcontext():
        ts.record(net, 5 * normal(3, 4), strict=False)
    assert unchanged(net, before)
    assert kept(net).keys() == before.keys()
    assert all(buffer is same[name] for name, buffer in net.named_buffers())


def test_recording_between_a_forward_pass_and_its_backward_pass() -> None:
    net, x = twice().train(), images()
    plain = run(net, x)
    leaf = x.clone().requires_grad_()
    output = net(leaf)
    ts.record(net, images(seed=3))
    grads = torch.autograd.grad(output.square().sum(), [leaf, *net.parameters()])
    assert_equal_runs(plain, (output.detach(), [*grads]))


def test_recording_leaves_gradients_and_their_switch_alone() -> None:
    net, x = twice(), images()
    net(x).sum().backward()
    before = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    assert torch.is_grad_enabled()
    support = ts.record(net, x)
    assert torch.is_grad_enabled()
    assert not support.rows.requires_grad
    after = [p.grad for p in net.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_recording_keeps_each_modules_mode() -> None:
    net = twice()
    net.bn.train()
    modes = [m.training for m in net.modules()]
    ts.record(net, images())
    assert [m.training for m in net.modules()] == modes


def test_in_place_models_do_not_change_their_input_more_than_they_would() -> None:
    net, x = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU(inplace=True)), normal(3, 4)
    for rule in (None, Energy(0.5), PositiveThreshold(0.0)):
        y = x.clone()
        support = ts.record(net, y, rule=rule)
        expected = x.square() > 0.5 if isinstance(rule, Energy) else x > 0
        assert torch.equal(support["0"], expected)
        assert torch.equal(y, torch.where(expected, x, 0.0))


def test_recording_in_inference_mode_serves_training_later() -> None:
    net, x = twice(), images()
    with torch.inference_mode():
        support = ts.record(net, x)
        shared = ts.record(net, x, rule=BatchEnergy(0.3))
    assert support == ts.record(net, x)
    live = run(net, x)
    with ts.hold(net, support):
        assert_equal_runs(live, run(net, x))
    with ts.hold(net, shared):
        run(net, x)


def test_dropout_draws_what_the_next_forward_pass_draws() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.ReLU()).train()
    x = torch.ones(2, 400)
    support = ts.record(net, x)
    assert torch.equal(support["1"], net(x) > 0)
    assert 0.3 < float(support.density()) < 0.7


# -- recording while one runs the model oneself -------------------------------------------------------


def test_recording_with_gradients_is_the_plain_forward_pass() -> None:
    net, x = twice().train(), images()
    before = kept(net)
    plain = run(net, x)
    net.load_state_dict(before)
    with ts.recording(net) as recorder:
        assert_equal_runs(plain, run(net, x))
    assert not unchanged(net, before)  # an ordinary pass: statistics move
    assert recorder.support == ts.record(net, x)
    assert [s.key for s in recorder.sites] == TWICE_KEYS


def test_recording_max_pooling_with_gradients() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 2), nn.MaxPool2d(2), nn.ReLU(), nn.AdaptiveMaxPool2d(1))
    net, x = net.double(), images()
    plain = run(net, x)
    with ts.recording(net, pooling=True) as recorder:
        assert_equal_runs(plain, run(net, x))
    assert recorder.support == ts.record(net, x, pooling=True)


@pytest.mark.parametrize("gated", [False, True])
def test_recording_with_a_rule_and_gradients_is_holding_it(gated: bool) -> None:
    net, x = mlp(5, 8, 6, 3), normal(4, 5)
    with ts.recording(net, rule=Energy(0.2), gated=gated) as recorder:
        ours = run(net, x)
    with ts.hold(net, recorder.support, gated=gated):
        assert_equal_runs(ours, run(net, x))


def test_the_recorder_keeps_the_last_forward_pass() -> None:
    net, x = mlp(5, 8, 3), normal(4, 5)
    with ts.recording(net) as recorder:
        with pytest.raises(SupportMismatchError, match="nothing was recorded"):
            _ = recorder.support
        net(normal(9, 5))
        first = recorder.support
        net(x)
        # a copy is another model, and may be recorded meanwhile
        assert recorder.support == ts.record(copy.deepcopy(net), x)
    assert len(first) == 9
    assert len(recorder.support) == 4
    assert torch.equal(recorder.support["1"], net[0](x) > 0)


def test_the_recorder_forgets_the_sites_of_the_pass_before() -> None:
    class Sometimes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.relu(x) - 1) if self.training else F.relu(x)

    net, x = Sometimes().train(), normal(4, 5)
    with ts.recording(net) as recorder:
        net(x)
        assert [s.key for s in recorder.sites] == ["#0", "#1"]
        net.eval()(normal(4, 7))
        assert [(s.key, s.shape) for s in recorder.sites] == [("#0", (7,))]


def test_options_are_checked_before_the_block() -> None:
    with (
        pytest.raises(SettingsError),
        ts.recording(mlp(5, 8, 3), rule=MajorityVote(), pooling=True),
    ):
        pytest.fail("the block was entered")


# -- forms of models ----------------------------------------------------------------------------------


def test_a_traced_graph_has_the_same_sites() -> None:
    net, x = twice(), images()
    graph = torch.fx.symbolic_trace(net)
    support = ts.record(net, x)
    assert ts.record(graph, x) == support
    with ts.hold(graph, support[[1, 0, 3, 2]]):
        held = graph(x)
    with ts.hold(net, support[[1, 0, 3, 2]]):
        assert torch.equal(net(x), held)


def test_a_functional_call_is_a_call_of_the_model() -> None:
    net, x = twice(), images()
    other = {name: p + 0.1 for name, p in net.named_parameters()}
    support = ts.record(net, x)
    with ts.hold(net, support):
        held = torch.func.functional_call(net, other, (x,))
    again = copy.deepcopy(net)
    again.load_state_dict({**net.state_dict(), **other})
    with ts.hold(again, support):
        assert torch.equal(again(x), held)


def test_a_module_under_two_names_has_the_first() -> None:
    relu = nn.ReLU()
    net = nn.ModuleDict({"one": relu, "two": relu, "fc": nn.Linear(4, 4)}).double()
    net.forward = lambda x: net["two"](net["fc"](net["one"](x)))
    assert [s.key for s in ts.sites(net, normal(2, 4))] == ["one#0", "one#1"]


def test_functions_of_a_module_that_is_not_registered_belong_to_its_caller() -> None:
    hidden = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).double()
    net = nn.Sequential(Call(lambda x: hidden(x)), nn.ReLU())
    assert [s.key for s in ts.sites(net, normal(2, 4))] == ["0#0", "1#0"]


def test_calling_forward_of_a_part_within_the_model_is_seen() -> None:
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu.forward(x) + self.relu(x - 1)

    assert [s.key for s in ts.sites(Direct(), normal(2, 4))] == ["#0", "relu#0"]


def test_only_a_plain_tuple_is_several_inputs() -> None:
    class Pair(NamedTuple):
        first: Tensor
        second: Tensor

    class Takes(nn.Module):
        def forward(self, x: Any, y: Any = None) -> Tensor:
            return torch.relu(x.first - x.second if y is None else x - y)

    x, y = torch.randn(4, 3), torch.randn(4, 3)
    assert ts.record(Takes(), Pair(x, y)) == ts.record(Takes(), (x, y))

    class Packed(nn.Module):
        def forward(self, x: Any) -> Tensor:
            return torch.relu(nn.utils.rnn.unpack_sequence(x)[0])

    sequence = nn.utils.rnn.pack_sequence([x])
    assert torch.equal(ts.record(Packed(), sequence)["#0"], x > 0)
    assert ts.sites(Packed(), sequence)[0].shape == (3,)
