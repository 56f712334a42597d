"""`twostroke demo`: what alternation does, on real digits, in two minutes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ..alternation import Alternation, BatchWise, InstanceWise, Live
from ..data import load
from ..models import create_model
from ..report import comparison, draw_curves
from ..training import MASK_AT_TEST, History, RunFolder, Settings, Status, evaluate, fit
from ..training.settings import PRESETS
from .progress import RunBar
from .train import torch_seed

SETTINGS = Settings(epochs=6, batch_size=100, lr=0.4)
ARMS: dict[str, Alternation] = {
    "SGD": Live(),
    "instance-wise": InstanceWise(warmup=2, gap=2),
    "batch-wise": BatchWise(warmup=1),
}


def arms(settings: Settings) -> dict[str, tuple[Alternation, Settings]]:
    """What is compared: the paper's kinds as they are, and the better weight stroke in half the time."""
    short = settings.but(epochs=max(1, settings.epochs // 2), lr=None, **PRESETS["fast"])
    return {name: (kind, settings) for name, kind in ARMS.items()} | {"fast": (Live(), short)}


def demo(*, out: Path | None = None, epochs: int = SETTINGS.epochs, seed: int = 0) -> int:
    """Train a small network on real digits by SGD and by both kinds of alternation, and compare.

    Same initial weights, order of examples, schedule and number of epochs; a fourth arm, the preset
    "fast", trains with Muon for half as many. Prints a table and draws learning curves like the paper's Fig. 1.

    Args:
        out: Folder for table and picture, by default the first free of twostroke-demo, twostroke-demo-2, ...
        epochs: Epochs of each arm.
        seed: Of initial weights and order.
    """
    settings = SETTINGS.but(epochs=epochs, seed=seed)
    data = load("mnist-12k")
    folder = RunFolder.create(
        out or _free("twostroke-demo"), {"command": "demo", "epochs": epochs, "seed": seed}
    )
    console = Console()
    console.print(
        f"{data.note}. Three arms of {epochs} epochs, and one of half as many with the preset "
        "'fast' (Muon); the same seed, schedule and order.\n",
        highlight=False,
    )
    histories: dict[str, History] = {}
    masked: dict[str, float] = {}
    for name, (kind, arm) in arms(settings).items():
        torch_seed(seed)
        model = create_model("allcnn-mini", classes=10, in_channels=1)
        with RunBar(console, name) as bar:
            result = fit(
                model,
                data,
                alternation=kind,
                settings=arm,
                callback=bar.epoch,
                progress=bar.step,
            )
        histories[name] = result.history
        if result.status is Status.INTERRUPTED:
            console.print("Stopped; nothing is kept of a demo.")
            return 130
        if result.status is Status.DIVERGED:
            console.print(f"{name}: {result.status.value} ({result.detail})", highlight=False)
            return 1
        masked[name] = evaluate(model, data.test, rule=MASK_AT_TEST).error
    console.print()
    console.print(comparison(histories, mask_errors=masked))
    console.print(EXPLANATION.format(tests=len(data.test)), highlight=False)
    note = f"{data.note}; allcnn-mini; seed {seed}; dots mark support strokes"
    draw_curves(
        histories, folder.curves_file, title="SGD and alternation on real digits", note=note
    )
    for name, history in histories.items():
        history.save(folder.path / f"{name.lower()}.csv")
    console.print(f"\ncurves: {folder.curves_file}", highlight=False, soft_wrap=True)
    return 0


EXPLANATION = """
error   of the trained network on test images
MaskT   the same weights with masks in place of ReLU on test images, which keep
        the larger half of the units that ReLU keeps (the paper's MaskT; it does
        not say how many)
loss    on training examples, under the masks held last, and by the live network
seconds of training, support strokes included, evaluation not

With {tests:,} test images an error of 2 % is uncertain by ± 0.3 points: smaller
differences mean nothing."""


def _free(stem: str) -> Path:
    path, number = Path(stem), 1
    while path.exists():
        number += 1
        path = Path(f"{stem}-{number}")
    return path
