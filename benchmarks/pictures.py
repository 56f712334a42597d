"""Pictures of one size in a folder as arrays: python benchmarks/pictures.py FOLDER FILE.npz

FOLDER has train/CLASS/*.jpg and val/CLASS/*.jpg. The file is one that `--data npz:FILE.npz` reads, so that a
benchmark decodes each picture once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    classes = sorted(p.name for p in (options.folder / "train").iterdir())
    arrays = {"classes": np.array(classes)}
    with ProcessPoolExecutor() as pool:
        for part, name in (("train", "train"), ("val", "test")):
            paths = [
                (path, k)
                for k, label in enumerate(classes)
                for path in sorted((options.folder / part / label).iterdir())
            ]
            found = pool.map(pixels, [path for path, _ in paths], chunksize=100)
            arrays[f"x_{name}"] = np.stack(list(found))
            arrays[f"y_{name}"] = np.array([k for _, k in paths])
    np.savez(options.file, **arrays)
    print({name: array.shape for name, array in arrays.items()})


if __name__ == "__main__":
    main()
