"""`twostroke train`: one run, into a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from rich.console import Console
from torch import nn

from ..alternation import Alternation, BatchWise, InstanceWise, Live
from ..data import Data
from ..errors import SettingsError
from ..models.catalog import origin
from ..runs import About, Checkpoint, RunFolder
from ..training import Settings, fit
from .options import DataOptions, Flat, RunOptions, plain
from .running import carry_out
from .weights import Start


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataOptions, RunOptions):
    """Train a model, by alternation or by an ordinary optimiser, and keep the run in a folder.

    Ctrl-C stops after the step under way; `twostroke train --resume FOLDER` goes on from there, and after a
    crash or a kill from the last checkpoint. With --epochs 30 it extends a finished run.

    Exit codes: 0 finished, 1 diverged, 2 bad input, a damaged file or a full disk, 3 a process was lost, 130
    stopped by Ctrl-C or SIGTERM.

    Several processes share the work: torchrun --nproc-per-node 8 -m twostroke train ..., or accelerate launch
    -m twostroke train ...
    """

    PATHS: ClassVar = ("weights",)

    model: str = "allcnn-mini"
    """Model; `twostroke models` lists them."""
    weights: str | None = None
    """Begin with trained weights: torchvision or timm (published ones of the model), the folder of a run, or a
    file of safetensors. Images are prepared as these want them; layers that do not fit are drawn again. A low
    --lr, such as 0.01, keeps what they know."""
    alternation: Literal["none", "instance", "batch"] = "none"
    """none is ordinary training, instance one mask an example, batch one mask a mini-batch."""
    settings: Annotated[Settings, Flat] = field(default_factory=Settings)
    instance: InstanceWise = field(default_factory=InstanceWise)
    batch: BatchWise = field(default_factory=BatchWise)

    def kind(self) -> Alternation:
        """The alternation that is asked for; options of another one are refused."""
        kinds: dict[str, Alternation] = {"instance": self.instance, "batch": self.batch}
        for name, kind in kinds.items():
            if name != self.alternation and kind != type(kind)():
                raise SettingsError(
                    f"options --{name}... belong to --alternation {name}, and this run has --alternation "
                    f"{self.alternation}"
                )
        return kinds.get(self.alternation, Live())


def train(what: TrainConfig) -> int:
    """Carry out what is asked for."""
    settings, kind = what.settings, what.kind()
    fresh = what.resume is None
    origin(what.model)  # a slip in a name is told before data are fetched
    processes = settings.processes()
    console = Console(quiet=not processes.main, markup=False)

    def begin() -> tuple[Data, nn.Module]:
        data = what.load(console, start.prepared)
        torch.manual_seed(settings.seed)
        return data, start.network(what.model, data)

    place = what.out if what.resume is None else what.resume
    assert place is not None
    run, config = RunFolder(place), {"command": "train"} | plain(what)
    resume = run.begun
    with processes.together():
        done = Checkpoint(run.path).epochs() if resume else 0
        if done > settings.epochs:  # before the run's folder takes the new number
            raise SettingsError(
                f"{done} epochs were run already: --epochs must be {done} or more, not {settings.epochs}"
            )
        start = Start.of(
            what.weights,
            what.model,
            data=what.data,
            preprocess=what.preprocess,
            begun=run.path if resume else None,
        )
        processes.device(settings.device) or settings.torch_device()
        if fresh and processes.main:
            run.check_vacant(config)
        if processes.first_here:  # downloads what is to be downloaded
            data, model = begin()
    with processes.together():
        if not processes.first_here:
            data, model = begin()
        if processes.main:
            if fresh:
                RunFolder.create(place, config)
                start.keep(place)
            else:
                run.configure(config)
    if not resume:  # killed before its first checkpoint: from the beginning, then
        with processes.together():
            if processes.main:
                run.clear()
    epochs = (
        f"{done} of {settings.epochs} epochs done before"
        if done
        else f"{settings.epochs} epoch{'s' * (settings.epochs > 1)}"
    )
    console.print(
        f"{what.model} on {data.name} ({data.note}), {kind.name}, {epochs}"
        + (f", {processes.count} processes" if processes.count > 1 else "")
        + (", in bfloat16" if settings.precision == "bf16" else ""),
        highlight=False,
    )
    for note in start.told():
        console.print(note, highlight=False, soft_wrap=True)

    def discard() -> None:
        if processes.main and fresh and not run.begun:
            run.discard()

    _, code = carry_out(
        lambda bars: fit(
            model,
            data,
            alternation=kind,
            settings=settings,
            listener=bars,
            folder=run.path,
            resume=resume,
            identity=plain(what),
        ),
        run,
        console,
        command="train",
        test=data.test,
        note=data.note,
        track=what.track,
        alternates=what.alternation != "none",
        about=About.of(what.model, data, preprocess=what.preprocess),
        main=processes.main,
        discard=discard,
        remedy=f"--lr {settings.peak / 10:g}",
    )
    return code
