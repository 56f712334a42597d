"""What adds up: python benchmarks/attributions.py --out FILE.json.

The logit of the network's answer is divided among the pixels by `theory.linear_map`, and by Captum's DeepLift,
Integrated Gradients and Input × Gradient, on networks of torchvision and timm: random weights, batch norm
calibrated on the same kind of images, float64. Completeness error: how far the parts' sum is from what a method
divides, relative to that, the worst of the images. For `linear_map` that is the logit, given the part of the
biases; for Captum's methods with a baseline (zeros) the logit without the baseline's. Input × Gradient promises
no sum; its line says how far it is from the logit. Needs captum and timm.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

import twostroke as ts
from common import parser_of, write
from twostroke.errors import TwostrokeError

VISION = (
    *("resnet18", "googlenet", "densenet121", "squeezenet1_1", "mobilenet_v2"),
    *("shufflenet_v2_x0_5", "regnet_x_400mf", "vgg11", "efficientnet_b0"),
)
TIMM = (
    "resnetv2_18",
    "repvgg_a0",
    "dla46x_c",
    "test_resnet",
    "regnetx_002",
    "vit_tiny_patch16_224",
)


def made(name: str, side: int) -> nn.Module:
    """By name, with random weights and calibrated batch norm, in evaluation mode and float64."""
    torch.manual_seed(0)
    source, _, rest = name.partition("/")
    if name == "torchvision/vgg11":  # without its hundred million weights at the end
        features = make_layers(cfgs["A"], batch_norm=False)
        net: nn.Module = nn.Sequential(
            features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)
        )
    elif source == "torchvision":
        options = {"aux_logits": False, "init_weights": True} if rest == "googlenet" else {}
        net = torchvision.models.get_model(rest, weights=None, num_classes=10, **options)
    else:
        options = {"img_size": side} if rest.startswith("vit") else {}
        net = timm.create_model(rest, pretrained=False, num_classes=10, **options)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
    net.train()
    with torch.no_grad():
        for seed in range(4):
            net(images(32, side, seed).float())
    return net.double().eval()


def images(count: int, side: int, seed: int) -> Tensor:
    """Smooth noise: (count, 3, side, side) float64."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, side // 8, side // 8, generator=draw, dtype=torch.float64)
    x = nn.functional.interpolate(coarse, size=side, mode="bicubic")
    return x + 0.3 * torch.randn(x.shape, generator=draw, dtype=torch.float64)


def ours(net: nn.Module, x: Tensor, answer: int) -> tuple[Tensor, Tensor]:
    """What the pixels are given, and what they should add up to: (batch,) each."""
    found = ts.theory.linear_map(net, ts.record(net, x, pooling=True), x).attribution(answer)
    with torch.no_grad():
        return found.inputs.flatten(1).sum(1) + found.bias, net(x)[:, answer]


def captums(method: str, steps: int) -> Callable[[nn.Module, Tensor, int], tuple[Tensor, Tensor]]:
    import captum.attr as attr  # is not installed with the tests

    def work(net: nn.Module, x: Tensor, answer: int) -> tuple[Tensor, Tensor]:
        if method == "Integrated Gradients":
            given = attr.IntegratedGradients(net).attribute(
                x, target=answer, n_steps=steps, internal_batch_size=32
            )
        else:
            kind = attr.DeepLift if method == "DeepLift" else attr.InputXGradient
            given = kind(net).attribute(x.clone().requires_grad_(), target=answer)
        with torch.no_grad():
            whole = net(x)[:, answer]
            if method != "Input × Gradient":
                whole = whole - net(torch.zeros_like(x))[:, answer]
        return given.detach().flatten(1).sum(1), whole

    return work


def measured(net: nn.Module, x: Tensor, answer: int, work: Callable) -> dict:
    """Completeness error and seconds, or why there is none."""
    start = time.perf_counter()
    try:
        total, whole = work(net, x, answer)
    except TwostrokeError as error:
        return {"refused": str(error)[:300]}
    except Exception as error:  # whatever another package raises is a result
        return {"failed": f"{type(error).__name__}: {error}"[:300]}
    error = float(((total - whole).abs() / whole.abs()).max())
    return {"error": error, "seconds": time.perf_counter() - start}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--models", nargs="+", default=None, help="torchvision/NAME, timm/NAME")
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50, help="of Integrated Gradients")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    names = options.models or [
        *(f"torchvision/{name}" for name in VISION),
        *(f"timm/{name}" for name in TIMM),
    ]
    methods: dict[str, Callable] = {"linear_map": ours}
    for method in ("DeepLift", "Integrated Gradients", "Input × Gradient"):
        methods[method] = captums(method, options.steps)
    results: dict[str, dict] = {}
    x = images(options.batch, options.side, seed=9)
    for name in names:
        net = made(name, options.side)
        with torch.no_grad():
            answer = int(net(x)[0].argmax())
        results[name] = {m: measured(net, x, answer, work) for m, work in methods.items()}
        print(name)
        for method, found in results[name].items():
            print(f"  {method:<22} {found}")
    write(options.out, options, results=results)


if __name__ == "__main__":
    main()
