"""Every table and figure at scale smoke with the nets as published: minutes each, so `pytest -m nightly`.

Images are made up where none are embedded: that a path works does not hang on what they show.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from twostroke.reproduction import EXPERIMENTS, reproduce
from twostroke.reproduction.tasks import TASKS

pytestmark = pytest.mark.nightly
SIZES = {"imagenet": 96}  # height and width; 32 for the others


def made_up(folder: Path, size: int) -> str:
    """An npz of ten kinds of noisy colour, 400 and 200 images."""
    draw = np.random.default_rng(0)
    colours = draw.integers(0, 256, (10, 3, 1, 1))
    arrays = {}
    for part, count in (("train", 400), ("test", 200)):
        y = np.arange(count) % 10
        noise = draw.integers(-40, 40, (count, 3, size, size))
        arrays |= {f"x_{part}": np.clip(colours[y] + noise, 0, 255).astype(np.uint8)}
        arrays |= {f"y_{part}": y}
    file = folder / f"made-up-{size}.npz"
    np.savez(file, **arrays)
    return f"npz:{file}"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_with_its_own_nets(name, tmp_path):
    sets = {TASKS[task].dataset for task, _ in EXPERIMENTS[name].cells}
    data = {
        known: "mnist-12k" if known == "mnist" else made_up(tmp_path, SIZES.get(known, 32))
        for known in sets
    }
    done = reproduce(name, out=tmp_path / "out", data=data)
    rows = json.loads((tmp_path / "out" / f"{name}.json").read_text())["rows"]
    assert sum(row["n"] + row["diverged"] for row in rows) >= len(done.results)
    assert all(file.stat().st_size > 0 for file in done.files)
    for (task, _), (run,) in done.results.items():
        assert run["identity"]["model"] == TASKS[task].model
        assert run["history"]
