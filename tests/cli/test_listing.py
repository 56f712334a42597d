"""`sites` and `models` as a user types them."""

import pytest
import torch

import twostroke as ts

from .typed import run


def test_sites_and_models(capsys):
    code, out, _ = run(capsys, "sites", "allcnn-mini", "--image-size", 28, "--channels", 1)
    assert code == 0
    assert "relu" in out
    assert "bytes" in out
    code, out, _ = run(capsys, "models")
    assert code == 0
    assert "allcnn-c" in out
    assert "torchvision" in out
    code, out, _ = run(capsys, "models", "--pattern", "allcnn*")
    assert {"allcnn-a", "allcnn-mini"} <= set(out.split())
    code, out, _ = run(capsys, "models", "--pattern", "cnn-m")
    assert out.split()[0] == "allcnn-mini"
    code, _, err = run(capsys, "sites", "vit_b_16", "--image-size", 224)
    assert code == 2
    assert "gelu" in err
    assert "and 9 more" in err  # twelve blocks, three named
    assert "--no-strict lists the rest" in err


def test_sites_say_what_a_store_would_hold(capsys):
    model = ts.models.create_model("allcnn-mini", in_channels=1).eval()
    row = ts.record(model, torch.zeros(1, 1, 28, 28)).nbytes
    size = ["--image-size", 28, "--channels", 1]
    _, out, _ = run(capsys, "sites", "allcnn-mini", *size)
    assert f"{row:,}" in out
    assert "examples takes" not in out
    _, out, _ = run(
        capsys, "sites", "allcnn-mini", *size, "--examples", 1_000_000, "--epochs", 1000
    )
    out = " ".join(out.split())
    assert f"1,000,000 examples takes {row / 1000:.3g} GB" in out
    assert f"1000 epochs under held masks read {row / 1000:.3g} TB" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet81"], "did you mean resnet18"),
        (["allcnn-c", "--image-size", 3], "9 x 9 or more"),
        (["allcnn-c", "--image-size", 0], "--image-size"),
        (["allcnn-c", "--examples", 0], "--examples"),
        (["allcnn-c", "--epochs", 3], "add --examples"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    code, _, err = run(capsys, "sites", *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") <= 3
