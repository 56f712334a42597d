"""`twostroke dsd`: dense-sparse-dense training of any network (Table 8), into a folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import torch
from rich.console import Console

from ..errors import SettingsError
from ..models.catalog import origin
from ..processes import launched
from ..runs import About, RunFolder, alone
from ..sparsity import (
    MASKS,
    Connections,
    Magnitude,
    Recipe,
    Units,
    WeightMask,
    dense_sparse_dense,
    recipe,
)
from ..sparsity.kept import begun
from ..sparsity.masked import in_one_process
from ..training.settings import Machine
from .dsd_tables import EXPLANATION, layer_table, phase_table
from .options import DataOptions, Flat, RunOptions, plain
from .running import carry_out
from .weights import Start

MaskName = Literal[
    "magnitude",
    "batch-connections",
    "instance-connections",
    "batch-units",
    "instance-units",
    "none",
]


@dataclass(frozen=True, kw_only=True)
class DsdConfig(DataOptions, RunOptions):
    """Train dense, prune and train on, then let the pruned weights return and train on.

    Lengths and learning rates are the published ones of resnet18, googlenet and vgg16 (ResNet-18's for other
    nets). Run the control, --mask none, beside it: the same epochs without any mask. What comes out is a plain
    model, in model.safetensors.
    """

    FIXED: ClassVar = ("epochs",)
    PATHS: ClassVar = ("weights",)

    model: str = "resnet18"
    """Any convolutional net; `twostroke models` lists them."""
    data: str = "imagenet"
    """Data set: a name, npz:PATH, or folder:PATH with pictures in PATH/train/CLASS/ and PATH/val/CLASS/."""
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
    """Begin with trained weights, as `twostroke train` takes them, and without a dense phase unless --epochs
    asks for one. Where new layers are drawn there is a short one."""
    scale: Literal["full", "short", "smoke"] = "full"
    """full is the published number of epochs, short about a fifth, smoke one a phase."""
    epochs: tuple[int, int, int] | None = None
    """Epochs of the three phases, instead of scale; 0 leaves one out."""
    lrs: tuple[float, float, float] | None = None
    """Initial learning rates of the three phases."""
    batch_size: int | None = None
    """Examples a step; left out, 256, or all where there are fewer."""
    machine: Annotated[Machine, Flat] = field(default_factory=Machine)

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

    def plan(self, *, fresh: bool = False, examples: int = 256) -> Recipe:
        """Lengths and learning rates for so many examples.

        `fresh` says that a layer of given weights is drawn again.
        """
        plan = recipe(self.model)
        if self.batch_size is None:
            plan = replace(plan, batch_size=min(plan.batch_size, examples))
        else:
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


def dsd(what: DsdConfig) -> int:
    """Carry out what is asked for."""
    in_one_process(launched())
    machine, mask = what.machine, what.weight_mask()
    place = what.out if what.resume is None else what.resume
    assert place is not None
    run, config = RunFolder(place), {"command": "dsd"} | plain(what)
    if what.resume is None:
        run.check_vacant(config)
    under_way = begun(run.path / "phases")
    origin(what.model)  # a slip in a name is told before data are fetched
    start = Start.of(
        what.weights,
        what.model,
        data=what.data,
        preprocess=what.preprocess,
        begun=run.path if under_way else None,
    )
    what.plan()  # a slip in an option is told before data are read
    console = Console(markup=False)
    examples = what.load(console, start.prepared)
    torch.manual_seed(machine.seed)
    net = start.network(what.model, examples)
    plan = what.plan(fresh=bool(start.fresh), examples=len(examples.train))
    if what.resume is None:
        RunFolder.create(place, config)
        start.keep(place)
    else:
        run.configure(config)
    console.print(
        f"{what.model} on {examples.name} ({examples.note}); mask {what.mask}; epochs "
        f"{', '.join(map(str, plan.whole()))} at learning rates {', '.join(map(str, plan.lrs))}",
        highlight=False,
    )
    for note in start.told(_on_new_layers(plan)):
        console.print(note, highlight=False, soft_wrap=True)

    def discard() -> None:
        if what.resume is None and not begun(run.path / "phases"):
            _discard(run)

    result, code = carry_out(
        lambda bars: dense_sparse_dense(
            net,
            examples,
            mask=mask,
            phases=plan,
            seed=machine.seed,
            device=machine.device,
            precision=machine.precision,
            channels_last=machine.channels_last,
            listener=bars,
            folder=run.path / "phases",
        ),
        run,
        console,
        command="dsd",
        test=examples.test,
        note=examples.note,
        track=what.track,
        about=About.of(what.model, examples, preprocess=what.preprocess),
        discard=discard,
    )
    if result is not None and result.phases:
        console.print(phase_table(result))
        console.print(EXPLANATION, highlight=False)
        layers = layer_table(result, run.path / "phases" / "2-sparse" / "phase.json")
        if layers is not None:
            console.print(layers)
    return code


def _on_new_layers(plan: Recipe) -> str:
    """What follows from layers that are drawn again."""
    epochs = plan.whole()[0]
    if epochs == 0:
        return "no dense phase trains what is then pruned: --epochs 5 45 45 would have one"
    return f"{epochs} epochs at {plan.lrs[0]:g} train it first (--epochs and --lrs change that)"


def _discard(run: RunFolder) -> None:
    phases = run.path / "phases"
    with alone(phases):
        (phases / "dense-sparse-dense.json").unlink(missing_ok=True)
        for place in (*phases.glob("*"), phases):
            with suppress(OSError):  # whatever else is in it stays
                place.rmdir()
    run.discard()
