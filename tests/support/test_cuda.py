"""On a GPU, where there is one: the same bits, the same held network, and errors by name."""

from __future__ import annotations

import pytest
import torch

import twostroke as ts
from twostroke.errors import OutsideForwardError, SupportMismatchError
from twostroke.support import BatchEnergy, bits

from .helpers import bits_equal, images, normal, run, twice
from .test_forms import Checkpointed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.half])
@pytest.mark.parametrize("shape", [(3, 13), (2, 4, 6, 6), (0, 5), (4, 16)])
def test_bits_are_those_of_the_cpu(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    q = normal(*shape).to(dtype)
    mask = normal(*shape, seed=1) > 0
    packed = bits.pack(mask.cuda())
    units = mask.shape[1:].numel()
    assert torch.equal(packed.cpu(), bits.pack(mask))
    assert torch.equal(
        bits.unpack(packed, (units,), dtype).cpu(), bits.unpack(packed.cpu(), (units,), dtype)
    )
    assert bits.count(packed) == int(mask.sum())
    for slope in (0.0, 0.25):
        there = bits.select(q.cuda(), packed, slope=slope)
        assert bits_equal(there.cpu(), bits.select(q, packed.cpu(), slope=slope))
    for closed in (False, True):
        on = bits.pack_relu(q.cuda(), closed=closed)
        assert torch.equal(on.cpu(), bits.pack_relu(q, closed=closed))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_held_right_after_recording(form: torch.memory_format, train: bool) -> None:
    net = twice().cuda().to(memory_format=form).train(train)
    x = images().cuda().contiguous(memory_format=form)
    support = ts.record(net, x)
    assert support.device == x.device
    live = run(net, x)
    with ts.hold(net, support):
        held = run(net, x)
    torch.testing.assert_close(held[0], live[0], rtol=1e-12, atol=1e-12)
    for a, b in zip(held[1], live[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert support.to("cpu") == ts.record(twice().train(train), images())


def test_a_support_on_the_cpu_does_not_fit() -> None:
    net, x = twice().cuda(), images().cuda()
    support = ts.record(net, x).to("cpu")
    with (
        ts.hold(net, support),
        pytest.raises(SupportMismatchError, match=r"support\.to\('cuda:0'\)"),
    ):
        net(x)
    with ts.hold(net, support.to("cuda")):
        net(x)
    shared = ts.record(net, x, rule=BatchEnergy(density=0.5))
    assert shared.drift(shared.to("cpu")) == 0


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_under_autocast(dtype: torch.dtype) -> None:
    net, x = twice(dtype=torch.float32).cuda(), images(dtype=torch.float32).cuda()
    with torch.autocast("cuda", dtype):
        support = ts.record(net, x)
        live = net(x)
        with ts.hold(net, support):
            held = net(x)
            held.float().sum().backward()
    assert torch.equal(held, live)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_in_the_threads_of_the_backward_pass(reentrant: bool) -> None:
    net, x = Checkpointed(reentrant).cuda(), normal(3, 4).cuda().requires_grad_()
    with ts.hold(net, ts.record(net, x)), pytest.raises(OutsideForwardError):
        net(x).sum().backward()
