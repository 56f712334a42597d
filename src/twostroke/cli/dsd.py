"""`twostroke dsd`: dense-sparse-dense training of any network (Table 8), into a folder."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from ..data import load
from ..errors import RunFolderError, SettingsError, TwostrokeError
from ..models.catalog import origin
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
from ..sparsity.masked import in_one_process
from ..training import RunFolder, Status
from ..training.engine import launched
from .config import checked, made, plain, refuse_beside_resume
from .dsd_tables import EXPLANATION, layer_table, phase_table
from .dsd_weights import check_origin, fresh_layers, network
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


@dataclass(frozen=True, kw_only=True)
class DsdConfig:
    """What one run is made of; `config.toml` in its folder holds the same names."""

    model: str = "resnet18"
    """Any convolutional net; `twostroke models` lists them."""
    data: str = "imagenet"
    """Data set: a name, folder:PATH or npz:PATH."""
    mask: MaskName = "magnitude"
    """What is pruned. magnitude: a share of each layer's smallest weights; batch-connections,
    instance-connections: weights that carry less than a price; batch-units, instance-units: units of
    little energy, step by step; none: the control."""
    ratio: float | None = None
    """magnitude: share of each layer's weights to prune, by default 0.3."""
    price: float | None = None
    """connections, units: price relative to the mean of the layer, by default 0.15 and 0.01. How much
    it prunes depends on the net (0.15: from 30 % to over 80 %); the tables at the end tell."""
    weights: str | None = None
    """Begin with a trained model, and without a dense phase unless --epochs asks for one: the folder
    of a run of `twostroke train`, or 'torchvision' for its published weights. Layers that these do
    not fit are drawn anew; then there is a short dense phase."""
    scale: Literal["full", "short", "smoke"] = "full"
    """full is the published number of epochs, short about a fifth, smoke one a phase."""
    epochs: tuple[int, int, int] | None = None
    """Epochs of the three phases, in place of scale; 0 leaves one out."""
    lrs: tuple[float, float, float] | None = None
    """Initial learning rates of the three phases."""
    batch_size: int | None = None
    """Examples a step, by default the recipe's."""
    augment: str = "none"
    """Augmentation, replayable: none, shift, flip-shift, or resized-crop (imagenet only, as published)."""
    preprocess: str = "none"
    """none is per-channel normalisation; raw, unit, gcn, gcn-zca (or gcn-zca:BIAS), lcn."""
    data_root: Path | None = None
    """Where named data sets lie or are downloaded to."""
    seed: int = 0
    """Of initial weights, order, augmentation and dropout."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes the GPU where there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes in bfloat16 where that is safe."""

    def weight_mask(self) -> WeightMask | Units:
        """The mask of that name with its number; a number that it does not have is refused."""
        mask = MASKS[self.mask]()
        if self.ratio is not None:
            if not isinstance(mask, Magnitude):
                raise SettingsError(f"--ratio belongs to --mask magnitude; {self.mask} has none")
            mask = replace(mask, ratio=self.ratio)
        if self.price is not None:
            if not isinstance(mask, Connections | Units):
                raise SettingsError(
                    f"--price belongs to connections and units; {self.mask} has none"
                )
            mask = replace(mask, price=self.price)
        return mask

    def plan(self, *, fresh: bool) -> Recipe:
        """Lengths and learning rates; `fresh` says that a layer of given weights is drawn anew."""
        plan = recipe(self.model)
        if self.batch_size is not None:
            if self.batch_size < 1:
                raise SettingsError(f"batch_size is 1 or more, not {self.batch_size}")
            plan = replace(plan, batch_size=self.batch_size)
        if self.epochs is not None:
            plan = replace(plan, epochs=self.epochs)
        else:
            plan = plan.scaled(self.scale)
            dense, sparse, again = plan.epochs
            if fresh:  # long enough for a new layer, and too slow to forget the trained ones
                plan = replace(plan, epochs=(max(1, round(dense / 10)), sparse, again))
                plan = replace(plan, lrs=(plan.lrs[1], *plan.lrs[1:]))
            elif self.weights is not None:
                plan = replace(plan, epochs=(0, sparse, again))
        return plan if self.lrs is None else replace(plan, lrs=self.lrs)


@dataclass(frozen=True, kw_only=True)
class DsdOptions:
    """Where a run goes and where it comes from."""

    out: Path | None = None
    """Folder for the run, needed unless --resume is given; must not hold one already."""
    resume: Path | None = None
    """Folder of a run that was stopped: go on with it, with its own settings."""


def dsd(
    options: Annotated[DsdOptions, tyro.conf.arg(name="")] = DsdOptions(),
    what: Annotated[DsdConfig, tyro.conf.arg(name="")] = DsdConfig(),
) -> int:
    """Train dense, prune and train on, then let the pruned weights return and train on.

    Lengths and learning rates are the published ones of resnet18, googlenet and vgg16 (ResNet-18's for
    other nets). Run the control, --mask none, beside it: the same epochs without any mask. The
    model that comes out is a plain one, in model.safetensors.
    """
    in_one_process(launched())
    if options.resume is not None:
        refuse_beside_resume(replace(options, resume=None), what)
        run = RunFolder(options.resume)
        what = _options_of(run)
    elif options.out is None:
        raise SettingsError("say where the run is to go: --out runs/NAME")
    mask = what.weight_mask()
    under_way = options.resume is not None and begun(options.resume / "phases")
    origin(what.model)  # a slip in a name is told before data are fetched
    notes = (
        [] if under_way else check_origin(what.weights, data=what.data, preprocess=what.preprocess)
    )
    examples = load(
        what.data,
        root=what.data_root,
        augmentation=None if what.augment == "none" else what.augment,
        preprocess=what.preprocess,
    )
    fresh = fresh_layers(what.model, what.weights, examples)
    plan = what.plan(fresh=bool(fresh))
    if fresh:
        notes.append(_note_on_new_layers(fresh, plan))
    torch_seed(what.seed)
    net = network(what.model, what.weights, examples, begun=under_way)
    if options.resume is None:
        assert options.out is not None
        run = RunFolder.create(options.out, {"command": "dsd"} | plain(what))
    console = Console()
    console.print(
        f"{what.model} on {examples.name} ({examples.note}); mask {what.mask}; epochs "
        f"{', '.join(map(str, plan.whole()))} at learning rates {', '.join(map(str, plan.lrs))}",
        highlight=False,
    )

    def notice(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    for note in notes:
        notice(note)
    bars = RunBars(console)
    try:
        with closing(bars), stoppable():
            result = dense_sparse_dense(
                net,
                examples,
                mask=mask,
                phases=plan,
                seed=what.seed,
                device=what.device,
                precision=what.precision,
                callback=lambda phase, record: bars.of(phase).epoch(record),
                progress=lambda phase, where: bars.of(phase).step(where),
                folder=run.path / "phases",
                notice=notice,
            )
    except TwostrokeError:
        if options.resume is None and not begun(run.path / "phases"):
            _discard(run)
        raise
    except KeyboardInterrupt:  # before the first phase
        _tell_resume(console, run)
        return 130
    return _finish(console, run, result, f"{what.model}, {what.mask}")


def _note_on_new_layers(layers: list[str], plan: Recipe) -> str:
    """What follows from layers that are drawn anew."""
    text = f"drawn anew: {' and '.join(layers)}; "
    epochs = plan.whole()[0]
    if epochs == 0:
        return text + "no dense phase trains what is then pruned: --epochs 5 45 45 would have one"
    return (
        text + f"{epochs} epochs at {plan.lrs[0]:g} train it first (--epochs and --lrs change that)"
    )


def _finish(console: Console, run: RunFolder, result: DenseSparseDenseResult, name: str) -> int:
    run.save_history(result.history)
    run.save_model(result.model)
    try:
        draw_curves({name: result.history}, run.curves_file, title=f"dense-sparse-dense: {name}")
    except OSError as error:
        raise RunFolderError(f"{run.curves_file} could not be written: {error}") from error
    if result.phases:
        console.print(phase_table(result))
        console.print(EXPLANATION, highlight=False)
    layers = layer_table(result, run.path / "phases" / "2-sparse" / "phase.json")
    if layers is not None:
        console.print(layers)
    detail = f" ({result.detail})" if result.detail else ""
    console.print(f"{result.status.value}{detail}", highlight=False)
    console.print(f"everything is in {run.path}", highlight=False, soft_wrap=True)
    if result.status is Status.INTERRUPTED:
        _tell_resume(console, run)
        return 130
    return 1 if result.status is Status.DIVERGED else 0


def _tell_resume(console: Console, run: RunFolder) -> None:
    console.print(f"go on with: twostroke dsd --resume {run.path}", highlight=False, soft_wrap=True)


def _options_of(run: RunFolder) -> DsdConfig:
    values = run.config()
    if values.pop("command", None) != "dsd":
        raise RunFolderError(f"{run.path} holds no run of `twostroke dsd`")
    return made(checked(values, DsdConfig, run.config_file), DsdConfig)


def _discard(run: RunFolder) -> None:
    phases = run.path / "phases"
    (phases / "dense-sparse-dense.json").unlink(missing_ok=True)
    for place in (*phases.glob("*"), phases):
        with suppress(OSError):  # whatever else is in it stays
            place.rmdir()
    run.discard()
