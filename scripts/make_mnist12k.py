"""Make the embedded data set `mnist-12k` from the four raw files of MNIST.

    python scripts/make_mnist12k.py FOLDER

FOLDER holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
t10k-labels-idx1-ubyte, unpacked. Out comes src/twostroke/data/embedded/mnist-12k.xz: of each
digit the first 1,000 of MNIST's training set and the first 200 of its test set. Each of the two
sets is then put in the order of its images' SHA-256, a permutation that is fixed without any
random generator whose stream could change between versions.

The file is one line of JSON, then the images and the labels as bytes, training set first, all
compressed with xz. The same input gives the same file bit for bit; a liblzma whose encoder differs
may not, and is then told apart by the checksum.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

TARGET = Path(__file__).parents[1] / "src" / "twostroke" / "data" / "embedded" / "mnist-12k.xz"
SHA256 = "26de1c1ae3cee2e78976ecf5efd01b7284ec32189bf25b3c3fd9deb5366fd717"
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# literal context of 4 bits and no alignment: bytes that predict their right neighbour
FILTERS = [
    {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0},
]


def read_idx(path: Path) -> Bytes:
    """Read a file of MNIST's idx format: two zero bytes, type 8, rank, sizes, then the bytes."""
    raw = path.read_bytes()
    if hashlib.md5(raw).hexdigest() != MD5[path.name]:
        raise SystemExit(f"{path} is not MNIST's: its MD5 must be {MD5[path.name]}")
    rank = raw[3]
    sizes = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(sizes)


def choose(
    images: Bytes,  # (count, height, width)
    labels: Bytes,  # (count,)
    per_class: int,
) -> tuple[Bytes, Bytes]:
    """Take the first `per_class` of each of the ten digits, in the order of their SHA-256."""
    firsts = [np.flatnonzero(labels == digit)[:per_class] for digit in range(10)]
    order = sorted(np.concatenate(firsts), key=lambda i: hashlib.sha256(images[i]).digest())
    return images[order], labels[order]


def pack(train: tuple[Bytes, Bytes], test: tuple[Bytes, Bytes]) -> bytes:
    """Put both sets, each (images, labels), into one compressed file's bytes."""
    header = {"train": len(train[1]), "test": len(test[1]), "shape": [1, *train[0].shape[1:]]}
    parts = [json.dumps(header).encode() + b"\n"]
    parts += [array.tobytes() for array in (*train, *test)]
    return lzma.compress(
        b"".join(parts), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=FILTERS
    )


def main() -> None:
    """Read the folder named on the command line and write the embedded file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the four raw files are, unpacked")
    folder: Path = parser.parse_args().folder
    train_x, train_y, test_x, test_y = (read_idx(folder / name) for name in MD5)
    packed = pack(choose(train_x, train_y, 1000), choose(test_x, test_y, 200))
    digest = hashlib.sha256(packed).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"nothing written: the result's SHA-256 is {digest}, expected {SHA256}")
    TARGET.write_bytes(packed)
    print(f"{TARGET}: {len(packed):,} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
