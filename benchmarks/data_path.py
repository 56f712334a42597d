"""Images a second that reach a training step: python benchmarks/data_path.py --out FILE.json.

Random images of CIFAR-10's size, mirrored and shifted by up to four pixels, normalised, in shuffled
batches. The variants take turns, a whole pass over the images each time; workers stay from pass to
pass. `Examples` holds uint8 images in the memory of one device and draws a batch's augmentation at
once; the others treat one image at a time, as a DataLoader does.

With --pictures COUNT it is JPEG pictures of 500 x 375 pixels in a folder instead, brought to 224: by random
resized crops, decoded at every use, and by the middle, which `load` decodes once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from common import add_device, paired, parser_of, show, write
from twostroke.data import DatasetExamples, Examples, FlipShift, announce, load

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
SHIFT = 4


class Pictures(Dataset):
    """CIFAR-10 as torchvision keeps it: arrays, of which each becomes a PIL picture."""

    classes = tuple("0123456789")

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable | None, *, pil: bool):
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy() if pil else images
        self.labels, self.transform, self.pil = labels.tolist(), transform, pil

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        image = Image.fromarray(self.images[index]) if self.pil else self.images[index]
        return self.transform(image) if self.transform else image, self.labels[index]


def transforms(pil: bool) -> Callable:
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)] if pil else []
    last = last or [v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose(
        [
            v2.RandomCrop(32, padding=SHIFT),
            v2.RandomHorizontalFlip(),
            *last,
            v2.Normalize(MEAN, STD),
        ]
    )


def from_loader(loader: DataLoader, device: str) -> Callable[[], int]:
    def work() -> int:
        seen = 0
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            seen += len(x)
        return seen

    return work


def from_source(source, batch: int) -> Callable[[], int]:
    views = iter(range(10**9))

    def work() -> int:
        view, seen = next(views), 0
        order = torch.randperm(len(source)).split(batch)
        announce(source, order, view=view)
        for indices in order:
            x, _ = source.batch(indices, view=view, seed=0)
            seen += len(x)
        return seen

    return work


def variants(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], int]]]:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (options.images, 3, 32, 32), generator=draw).byte()
    labels = torch.randint(0, 10, (options.images,), generator=draw)
    moments = {"mean": MEAN, "std": STD, "classes": Pictures.classes}
    ours = {"augmentation": FlipShift(shift=SHIFT), **moments}
    held = Examples(images, labels, **ours).to(options.device)
    yield "Examples", from_source(held, options.batch)
    plain = Pictures(images, labels, None, pil=False)
    for workers in (0, 2):
        source = DatasetExamples(plain, device=options.device, workers=workers, **ours)
        yield f"DatasetExamples, {workers} workers", from_source(source, options.batch)
    for pil in (True, False):
        data = Pictures(images, labels, transforms(pil), pil=pil)
        for workers in (0, 2):
            loader = DataLoader(
                data,
                options.batch,
                shuffle=True,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=options.device != "cpu",
            )
            kind = "PIL" if pil else "tensors"
            yield (
                f"torchvision v2 on {kind}, {workers} workers",
                from_loader(loader, options.device),
            )


def pictures(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    draw = np.random.default_rng(0)
    for k in range(options.pictures):
        file = folder / "train" / f"{k % 2}" / f"{k}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        small = draw.integers(0, 256, (47, 63, 3), dtype=np.uint8)
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(file)
    (folder / "val").symlink_to(folder / "train")
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    kinds = {
        "random crops": ("resized-crop", [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip()]),
        "middles": ("none", [v2.Resize(256), v2.CenterCrop(224)]),
    }
    for kind, (augmentation, theirs) in kinds.items():
        data = load(f"folder:{folder}", image_size=224, augmentation=augmentation)
        yield f"{kind}, load", from_source(data.train.to(options.device), options.batch)
        for workers in (0, 2):
            loader = DataLoader(
                torchvision.datasets.ImageFolder(folder / "train", v2.Compose([*theirs, *last])),
                options.batch,
                shuffle=True,
                num_workers=workers,
                persistent_workers=workers > 0,
            )
            yield f"{kind}, ImageFolder, {workers} workers", from_loader(loader, options.device)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--turns", type=int, default=9)
    add_device(parser)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    count = options.pictures or options.images
    with tempfile.TemporaryDirectory() as folder:
        works = dict(pictures(options, Path(folder)) if options.pictures else variants(options))
        for name, work in works.items():
            if (seen := work()) != count:
                raise SystemExit(f"{name} gives {seen} of {count} images")
        result = paired(works, options.turns)
    what = "pictures of 500×375" if options.pictures else "images of 3×32×32"
    show(f"{count:,} {what}, batches of {options.batch}", result)
    for figures in result.values():
        figures["images_per_second"] = 1e3 * count / figures["median_ms"]
    write(options.out, options, torchvision=torchvision.__version__, variants=result)


if __name__ == "__main__":
    main()
