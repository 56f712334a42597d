"""`twostroke dsd`: dense-sparse-dense training of any network (Table 8), into a folder."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from ..data import load
from ..errors import RunFolderError, SettingsError, TwostrokeError
from ..models import create_model
from ..report import draw_curves
from ..sparsity import (
    MASKS,
    Connections,
    DenseSparseDenseResult,
    Magnitude,
    Recipe,
    Units,
    WeightMask,
    dense_sparse_dense,
    recipe,
)
from ..sparsity.kept import begun
from ..training import RunFolder, Status
from .progress import RunBars
from .train import stoppable, torch_seed

MaskName = Literal[
    "magnitude",
    "batch-connections",
    "instance-connections",
    "batch-units",
    "instance-units",
    "none",
]


def dsd(
    *,
    model: str = "resnet18",
    data: str = "imagenet",
    out: Path | None = None,
    resume: Path | None = None,
    mask: MaskName = "magnitude",
    ratio: float | None = None,
    price: float | None = None,
    weights: str | None = None,
    scale: Literal["full", "short", "smoke"] = "full",
    epochs: tuple[int, int, int] | None = None,
    lrs: tuple[float, float, float] | None = None,
    batch_size: int | None = None,
    augment: str = "none",
    preprocess: str = "none",
    data_root: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
) -> int:
    """Train dense, prune and train on, then let the pruned weights return and train on.

    Lengths and learning rates are the published ones of resnet18, googlenet and vgg16 (ResNet-18's for
    other nets). Run the control, --mask none, beside it: the same epochs without any mask. The
    model that comes out is a plain one, in model.safetensors.

    Args:
        model: Any convolutional net; `twostroke models` lists them.
        data: Data set: a name, folder:PATH or npz:PATH.
        out: Folder for the run; must not hold one already.
        resume: Folder of a run that was stopped: go on with it, with its own settings.
        mask: What is pruned. magnitude: a share of each layer's smallest weights; batch-connections,
            instance-connections: weights that carry less than a price; batch-units, instance-units:
            units of little energy, step by step; none: the control.
        ratio: magnitude: share of each layer's weights to prune, by default 0.3.
        price: connections, units: price relative to the mean of the layer, by default 0.15 and 0.01.
        weights: Start the sparse phase from a trained model: the folder of a run of `twostroke train`,
            or 'torchvision' for its published weights.
        scale: full is the published number of epochs, short about a fifth, smoke one a phase.
        epochs: Epochs of the three phases, in place of scale.
        lrs: Initial learning rates of the three phases.
        batch_size: Examples a step, by default the recipe's.
        augment: Augmentation, replayable: none, shift, flip-shift; for imagenet resized-crop.
        preprocess: none is per-channel normalisation; raw, unit, gcn, gcn-zca, lcn.
        data_root: Where named data sets lie or are downloaded to.
        seed: Of initial weights, order, augmentation and dropout.
        device: cpu, cuda, cuda:1; auto takes the GPU where there is one.
        precision: bf16 computes in bfloat16 where that is safe.
    """
    asked = {name: value for name, value in locals().items() if name not in ("out", "resume")}
    console = Console()
    if resume is not None:
        if out is not None:
            raise SettingsError("--resume goes on with a run as it was: give no --out beside it")
        run = RunFolder(resume)
        asked |= _from_file(run, asked)
    elif out is None:
        raise SettingsError("say where the run is to go: --out runs/NAME")
    chosen = _mask(asked["mask"], asked["ratio"], asked["price"])
    plan = _plan(asked)
    examples = load(
        asked["data"],
        root=asked["data_root"] and Path(asked["data_root"]),
        augmentation=None if asked["augment"] == "none" else asked["augment"],
        preprocess=asked["preprocess"],
    )
    torch_seed(asked["seed"])
    net = create_model(
        asked["model"],
        classes=len(examples.classes),
        in_channels=examples.train.shape[0],
        weights="IMAGENET1K_V1" if asked["weights"] == "torchvision" else None,
    )
    if asked["weights"] not in (None, "torchvision"):
        RunFolder(asked["weights"]).load_model(net)
    if resume is None:
        assert out is not None
        run = RunFolder.create(out, {"command": "dsd"} | _plain(asked))
    console.print(
        f"{asked['model']} on {examples.name} ({examples.note}); mask {asked['mask']}; epochs "
        f"{', '.join(map(str, plan.whole()))} at learning rates {', '.join(map(str, plan.lrs))}",
        highlight=False,
    )
    bars = RunBars(console)
    try:
        with closing(bars), stoppable():
            result = dense_sparse_dense(
                net,
                examples,
                mask=chosen,
                phases=plan,
                seed=asked["seed"],
                device=asked["device"],
                precision=asked["precision"],
                callback=lambda phase, record: bars.of(phase).epoch(record),
                progress=lambda phase, where: bars.of(phase).step(where),
                folder=run.path / "phases",
            )
    except TwostrokeError:
        if resume is None and not begun(run.path / "phases"):
            _discard(run)
        raise
    return _finish(console, run, result, f"{asked['model']}, {asked['mask']}")


def _finish(console: Console, run: RunFolder, result: DenseSparseDenseResult, name: str) -> int:
    run.save_history(result.history)
    run.save_model(result.model)
    try:
        draw_curves({name: result.history}, run.curves_file, title=f"dense-sparse-dense: {name}")
    except OSError as error:
        raise RunFolderError(f"{run.curves_file} could not be written: {error}") from error
    console.print(table(result))
    console.print(EXPLANATION, highlight=False)
    detail = f" ({result.detail})" if result.detail else ""
    console.print(f"{result.status.value}{detail}", highlight=False)
    console.print(f"everything is in {run.path}", highlight=False, soft_wrap=True)
    if result.status is Status.INTERRUPTED:
        console.print(
            f"go on with: twostroke dsd --resume {run.path}", highlight=False, soft_wrap=True
        )
        return 130
    return 1 if result.status is Status.DIVERGED else 0


EXPLANATION = """
found     test error of the weights that the phase began with, in %
masked    the same after masks were set (sparse) or released (dense again)
renormed  the same after batch norm's statistics were estimated anew
end       test error at the end of the phase
zeros     share of the weights that are zero then; off: units that masks switch off
"""


def table(result: DenseSparseDenseResult) -> Table:
    """A line a phase: errors around the change of masks and at the end, and how sparse it is."""
    shown = Table(title="test error in %", title_justify="left")
    shown.add_column("phase")
    heads = ("epochs", "lr", "found", "masked", "renormed", "end", "zeros %")
    units = any(phase.units_on is not None for phase in result.phases)
    for head in (*heads, *(["off %"] if units else [])):
        shown.add_column(head, justify="right")
    for phase in result.phases:
        cells = [str(phase.epochs), f"{phase.lr:g}"]
        errors = (phase.error_before, phase.error_masked, phase.error_estimated, phase.error)
        cells += [f"{error:.2f}" for error in errors]
        cells.append(f"{100 * phase.sparsity:.1f}")
        if units:
            cells.append("–" if phase.units_on is None else f"{100 * (1 - phase.units_on):.1f}")
        shown.add_row(phase.name, *cells)
    return shown


def _mask(name: str, ratio: float | None, price: float | None) -> WeightMask | Units:
    """The mask of that name with its number; a number that it does not have is refused."""
    if name not in MASKS:
        raise SettingsError(f"mask is one of {', '.join(MASKS)}, not {name!r}")
    mask = MASKS[name]()
    if ratio is not None:
        if not isinstance(mask, Magnitude):
            raise SettingsError(f"--ratio belongs to --mask magnitude; {name} has none")
        mask = replace(mask, ratio=ratio)
    if price is not None:
        if not isinstance(mask, Connections | Units):
            raise SettingsError(f"--price belongs to connections and units; {name} has none")
        mask = replace(mask, price=price)
    return mask


def _plan(asked: dict[str, Any]) -> Recipe:
    plan = recipe(asked["model"])
    if asked["lrs"] is not None:
        plan = replace(plan, lrs=tuple(asked["lrs"]))
    if asked["batch_size"] is not None:
        if asked["batch_size"] < 1:
            raise SettingsError(f"batch_size is 1 or more, not {asked['batch_size']}")
        plan = replace(plan, batch_size=asked["batch_size"])
    if asked["epochs"] is not None:
        plan = replace(plan, epochs=tuple(asked["epochs"]))
    else:
        plan = plan.scaled(asked["scale"])
    if asked["weights"] is not None:
        plan = replace(plan, epochs=(0, *plan.epochs[1:]))
    return plan


def _plain(asked: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in asked.items() if v is not None}


def _from_file(run: RunFolder, asked: dict[str, Any]) -> dict[str, Any]:
    config = run.config()
    if config.pop("command", None) != "dsd":
        raise RunFolderError(f"{run.path} holds no run of `twostroke dsd`")
    return {name: config.get(name) for name in asked}


def _discard(run: RunFolder) -> None:
    phases = run.path / "phases"
    (phases / "dense-sparse-dense.json").unlink(missing_ok=True)
    if phases.is_dir() and not any(phases.iterdir()):
        phases.rmdir()
    run.discard()
