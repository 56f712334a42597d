"""Whole nets of torchvision and timm, held exactly or refused by name: python benchmarks/conformance.py.

All classification nets of torchvision but four of over 200 million weights, and those of timm that are named
here; random weights, batch norm calibrated by one batch, small images, float64, both modes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import nn

import twostroke as ts
from common import parser_of, write
from twostroke.errors import UnholdableError

TIMM = """
resnet10t resnet26d resnetv2_18 resnext50_32x4d wide_resnet50_2 res2net50_14w_8s resnetblur18 repvgg_a0
regnetx_002 dla34 dla46x_c hrnet_w18_small vgg11_bn densenet121 selecsls42b dpn48b xception41
legacy_xception inception_v4 inception_resnet_v2 mobilenetv1_100 mobilenetv2_050 fbnetc_100 spnasnet_100
darknet53 vovnet39a test_resnet legacy_seresnet18 ghostnet_050 resnest14d skresnet18 efficientnet_b0
convnext_atto vit_tiny_patch16_224
"""
LARGE = (
    "vit_h_14",
    "vit_l_16",
    "vit_l_32",
    "regnet_y_128gf",
)  # smaller ones of the same code are here
FIXED = ("vit", "swin", "maxvit")  # take images of one size alone


def names() -> list[str]:
    vision = torchvision.models.list_models(module=torchvision.models)
    return [f"torchvision {n}" for n in vision if n not in LARGE] + [
        f"timm {n}" for n in TIMM.split()
    ]


def weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def make(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The net, its batch norm calibrated, and two images."""
    torch.manual_seed(0)
    library, name = name.split()
    if library == "timm":
        import timm

        net = timm.create_model(name, num_classes=10)
    else:
        drawn = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}  # slowly
        net = torchvision.models.get_model(name, num_classes=10, **drawn)
    side = 224 if name.startswith(FIXED) else 96 if "inception" in name else 64
    side = 299 if name == "inception_v3" else side  # for its auxiliary head
    net, x = net.double(), torch.randn(4, 3, side, side, dtype=torch.float64)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(x) if norms else None
    return net, x[:2]


def measure(name: str) -> dict[str, Any]:
    """What became of one net: exact, refused and why, or what differs."""
    net, x = make(name)
    told: dict[str, Any] = {"net": name, "weights": weights(net)}
    try:
        for mode in (False, True):
            net.train(mode)
            before = {k: v.clone() for k, v in net.state_dict().items()}
            found = ts.check(net, x, pooling=True)
            after = net.state_dict()
            changed = [k for k, v in before.items() if not torch.equal(v, after[k])]
            kinds = dict(Counter(site.kind for site in found.sites))
            told |= {
                "sites": kinds,
                "differs": [*told.get("differs", []), *found.differs, *changed],
            }
    except UnholdableError as error:
        said = str(error).partition(". Replace")[0]
        return told | {
            "outcome": "refused",
            "why": said.removeprefix("no support can be held for: "),
        }
    return told | {"outcome": "differs" if told["differs"] else "exact"}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--only", help="nets whose names have this in them")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    results = []
    for name in names():
        if options.only is None or options.only in name:
            start = time.perf_counter()
            results.append(measure(name))
            row = results[-1]
            told = row.get("why") or row["sites"]
            print(
                f"{name}: {row['outcome']}, {told}, {time.perf_counter() - start:.1f} s", flush=True
            )
    counts = Counter(row["outcome"] for row in results)
    print(dict(counts))
    write(options.out, options, counts=counts, results=results)
    sys.exit(bool(counts["differs"]))


if __name__ == "__main__":
    main()
