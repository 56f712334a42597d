"""The embedded data set: 12,000 real handwritten digits that need no download.

`embedded/mnist-12k.xz` is made by scripts/make_mnist12k.py; `embedded/NOTICE.txt` says whose work
it is. Unpacked it is one line of JSON, {"train": n, "test": m, "shape": [channels, height, width]},
then as bytes the training images, their labels, the test images, their labels.
"""

from __future__ import annotations

import hashlib
import json
import math
from importlib import resources

import numpy as np
import torch

from ..errors import DataError
from .bundle import Data, from_tensors

FILE = "mnist-12k.xz"
SHA256 = "26de1c1ae3cee2e78976ecf5efd01b7284ec32189bf25b3c3fd9deb5366fd717"


def load_mnist12k() -> Data:
    """Unpack the embedded digits: 10,000 training and 2,000 test images of 1 x 28 x 28, uint8.

    Raises `DataError` if the embedded file is missing or damaged.
    """
    try:
        packed = resources.files("twostroke.data").joinpath("embedded", FILE).read_bytes()
    except OSError as error:
        raise DataError(
            f"the embedded file {FILE} is missing; reinstall twostroke ({error})"
        ) from error
    return unpack(packed)


def unpack(
    packed: bytes,  # the whole file
    *,
    sha256: str = SHA256,
) -> Data:
    """Check a packed file against its SHA-256 and turn it into `Data`.

    Raises `DataError` if the bytes are not those that were packed.
    """
    import lzma  # not every Python is built with it, and `import twostroke` must not need it

    digest = hashlib.sha256(packed).hexdigest()
    if digest != sha256:
        raise DataError(
            f"the embedded file {FILE} is damaged: its SHA-256 is {digest}, not {sha256}; "
            "reinstall twostroke"
        )
    header, _, body = lzma.decompress(packed).partition(b"\n")
    sizes = json.loads(header)
    shape: list[int] = sizes["shape"]
    tensors, start = [], 0
    for count in (sizes["train"], sizes["test"]):
        for size in ([count, *shape], [count]):
            length = math.prod(size)
            array = np.frombuffer(body, np.uint8, count=length, offset=start).reshape(size)
            tensors.append(torch.from_numpy(array.copy()))
            start += length
    x, y, x_test, y_test = tensors
    return from_tensors(
        x,
        y,
        x_test,
        y_test,
        classes=tuple("0123456789"),
        name="mnist-12k",
        note=f"{len(y):,} + {len(y_test):,} images of MNIST, balanced over the ten digits",
    )
