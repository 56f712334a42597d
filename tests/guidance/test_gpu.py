"""The pull's kernels for a GPU: on one where there is one, in Triton's interpreter on the CPU elsewhere."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings

import twostroke as ts
from twostroke.guidance import gpu
from twostroke.guidance.pull import pull, reference_pull
from twostroke.models import create_model
from twostroke.support import bits

pytest.importorskip("triton", reason="these kernels are written in Triton")

CUDA = torch.cuda.is_available()
HERE = "cuda" if CUDA else "cpu"
FORMS = {4: torch.channels_last, 5: torch.channels_last_3d}
NAMES = ["twostroke.support.triton_kernels", "twostroke.guidance.triton_kernels"]
needs_gpu = pytest.mark.skipif(not CUDA, reason="needs a GPU")


@pytest.fixture
def kernels_run() -> Iterator[None]:
    """Without a GPU, the kernels take the CPU's tensors and are interpreted."""
    if CUDA:
        yield
        return
    before = {name: sys.modules.pop(name, None) for name in NAMES}
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        interpreted = [importlib.import_module(name) for name in NAMES]
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        with (
            mock.patch.object(gpu.base, "_compiled", return_value=interpreted[0]),
            mock.patch.object(gpu.base, "_placed", lambda t: t.device.type == "cpu"),
            mock.patch.object(gpu, "_compiled", return_value=interpreted[1]),
            mock.patch.object(gpu, "_BYTES", 16),
            mock.patch.object(gpu, "_VALUES", 64),
        ):
            yield


sides = st.one_of(st.integers(1, 5), st.sampled_from([8, 4]))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(sides, min_size=2, max_size=5),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.half]),
    st.booleans(),
    st.floats(0.1, 3),
    st.integers(0, 2**20),
)
def test_value_and_gradient_are_the_reference_s(
    kernels_run: None, shape: list[int], dtype: torch.dtype, last: bool, margin: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    q = (3 * torch.randn(shape, generator=draw, dtype=torch.float64) + 0.5).to(HERE, dtype)
    mask = (torch.rand(shape, generator=draw) < 0.4).to(HERE)
    if last and len(shape) in FORMS:
        q = q.contiguous(memory_format=FORMS[len(shape)])
    assert gpu.serves(q)
    q.requires_grad_()
    value = pull(q, bits.pack(mask), margin)
    (slope,) = torch.autograd.grad(2.5 * value, q)
    # half precision is counted in single, and only the gradient is rounded to it
    wide = q.detach().to(torch.promote_types(dtype, torch.float32)).requires_grad_()
    expected = reference_pull(wide, mask, margin)
    (gradient,) = torch.autograd.grad(2.5 * expected, wide)
    close = (
        {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
    )
    torch.testing.assert_close(value, expected, **close)
    if dtype in (torch.half, torch.bfloat16):
        close = {"rtol": 1e-2, "atol": 1e-5}
    torch.testing.assert_close(slope, gradient.to(dtype), **close)
    assert slope.dtype == dtype
    assert slope.stride() == q.stride()


@needs_gpu
@pytest.mark.parametrize("last", [False, True])
def test_a_student_on_a_gpu_is_guided_as_on_the_cpu(last: bool) -> None:
    torch.manual_seed(0)
    teacher, student = (create_model("allcnn-mini", classes=10) for _ in range(2))
    x = torch.randn(6, 3, 32, 32)
    guide = ts.Guide.record(teacher.eval(), x)
    student, x = student.double(), x.double()
    with ts.guided(student, guide.batch(torch.arange(6))) as guidance:
        student(x)
    here = guidance.loss()
    here.backward()
    gradients = [p.grad.clone() for p in student.parameters() if p.grad is not None]
    student.zero_grad()
    form = torch.channels_last if last else torch.contiguous_format
    student.to("cuda", memory_format=form)
    moved = x.cuda().contiguous(memory_format=form)
    with ts.guided(student, guide.to("cuda").batch(torch.arange(6))) as guidance:
        student(moved)
    guidance.loss().backward()
    torch.testing.assert_close(guidance.loss().cpu(), here)
    found = [p.grad.cpu() for p in student.parameters() if p.grad is not None]
    for a, b in zip(found, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@needs_gpu
def test_distill_on_a_gpu_repeats(tmp_path: Path) -> None:
    def run(folder: Path) -> list[torch.Tensor]:
        torch.manual_seed(1)
        student = create_model("allcnn-mini", classes=10)
        ts.distill(student, guide, x, steps=8, folder=folder, batch_size=4, device="cuda")
        return [p.detach().cpu() for p in student.parameters()]

    torch.manual_seed(0)
    teacher = create_model("allcnn-mini", classes=10).eval().cuda()
    x = torch.randn(16, 3, 32, 32)
    guide = ts.Guide.record(teacher, x)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        one, two = run(tmp_path / "a"), run(tmp_path / "b")
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)
