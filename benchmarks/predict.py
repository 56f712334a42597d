"""`twostroke predict` against a bare loop over a DataLoader: python benchmarks/predict.py --out FILE.json.

Photographs are made from smooth noise, as JPEG of 500×375 pixels, in a folder. Our side is the whole command,
which reads the run, writes a CSV file and looks for damaged pictures. The other side is a DataLoader with
torchvision's usual transforms (resize, centre crop, normalise) and the same model, loaded before; it keeps the
classes only. `--cpu` counts the CPU time of all threads and workers instead of the clock's: where the machine
has other work, that is what compares.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import twostroke as ts
from common import add_device, paired, parser_of, seconds_of, show, write
from twostroke.cli.predict import predict
from twostroke.data.pictures import MEAN, STD
from twostroke.runs import About


class Files(Dataset):
    """Files of a folder, as torchvision's ImageFolder reads them."""

    def __init__(self, files: list[Path]):
        self.files = files
        self.transform = v2.Compose(
            [
                v2.Resize(256),
                v2.CenterCrop(224),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB"))


def photographs(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{k:04}.jpg" for k in range(count)]
    for k, file in enumerate(files):
        image = ts.data.noise(1, (3, 375, 500), grain=8, seed=k).images[0]
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, quality=90)
    return files


def bare(
    net: torch.nn.Module, files: list[Path], batch: int, workers: int, device: str
) -> Callable:
    def work() -> None:
        loader = DataLoader(Files(files), batch, num_workers=workers, pin_memory=device != "cpu")
        with torch.inference_mode():
            answers = [net(x.to(device, non_blocking=True)).argmax(1) for x in loader]
        torch.cat(answers).cpu()

    return work


def cpu_seconds_of(work: Callable[[], object]) -> float:
    """Of this process and of those that it has waited for."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--model", default="mobilenet_v3_small")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cpu", action="store_true")
    add_device(parser)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        folder, run = Path(place, "pictures"), Path(place, "run")
        folder.mkdir()
        run.mkdir()
        files = photographs(folder, options.pictures)
        net = ts.models.create_model(options.model, classes=1000).eval()
        classes = tuple(f"class {k}" for k in range(1000))
        about = About(options.model, classes, (3, 224, 224), MEAN, STD, crop=224 / 256)
        ts.RunFolder(run).save_model(net, about=about)
        net.to(options.device)
        shared = {"batch_size": options.batch, "device": options.device}
        works = {
            "twostroke predict": lambda: predict(run, (folder,), csv=run / "out.csv", **shared)
        }
        for workers in options.workers:
            name = f"DataLoader, {workers} workers"
            works[name] = bare(net, files, options.batch, workers, options.device)
        clock = cpu_seconds_of if options.cpu else seconds_of
        result = paired(works, options.turns, clock)
    show(f"{options.pictures:,} JPEGs of 500×375, {options.model} on {options.device}", result)
    for figures in result.values():
        figures["pictures_per_second"] = 1e3 * options.pictures / figures["median_ms"]
    write(options.out, options, torchvision=torchvision.__version__, variants=result)


if __name__ == "__main__":
    main()
