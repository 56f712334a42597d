"""`twostroke train`: one run, into a folder."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from ..alternation import Alternation, BatchWise, InstanceWise, Live, Plateau
from ..data import Data, load
from ..errors import RunFolderError, SettingsError, TwostrokeError
from ..models import create_model
from ..models.catalog import origin
from ..report import draw_curves
from ..training import RunFolder, Selective, Settings, Settled, Status, fit
from ..training.checkpoint import Checkpoint
from ..training.engine import processes_of
from ..training.settings import PRESETS
from .config import from_toml, options_of, plain, refuse_beside_resume
from .progress import RunBar


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What one run is made of; `config.toml` in its folder holds the same names."""

    data: str = "mnist-12k"
    """Data set: a name, folder:PATH (PATH/train/CLASS/*.jpg, PATH/val/...) or npz:PATH."""
    data_root: Path | None = None
    """Where named data sets lie or are downloaded to."""
    augment: str = "none"
    """Augmentation, replayable: none, shift, flip-shift, or resized-crop (imagenet only, as published)."""
    preprocess: str = "none"
    """none is per-channel normalisation; raw, unit, gcn, gcn-zca (CIFAR as published; gcn-zca:BIAS sets the
    filter bias, 0.1), lcn (SVHN)."""
    model: str = "allcnn-mini"
    """Model; `twostroke models` lists them."""
    alternation: Literal["none", "instance", "batch"] = "none"
    """none is ordinary training, instance one mask an example, batch one mask a mini-batch."""
    epochs: int = 10
    """Epochs in all."""
    lr: float | None = None
    """Peak learning rate; left out, 0.1 for sgd, 0.001 for adamw, 0.05 for muon."""
    schedule: str = "one-cycle"
    """Learning rate by progress: one-cycle, cosine, step, constant."""
    batch_size: int = 128
    """Examples a step."""
    optimizer: str = "sgd"
    """sgd (Nesterov momentum), adamw, or muon (descent in the spectral norm)."""
    momentum: float = 0.9
    """Momentum of sgd and muon."""
    weight_decay: float | None = None
    """Left out, 5e-4 for sgd, 0.01 for adamw, 0.3 for muon; for these two it is decoupled, times the learning
    rate."""
    clip: float | None = None
    """Largest norm of the gradient."""
    average: float | None = None
    """Also keep and evaluate an exponential average of the weights, average.safetensors; this share of it
    stays at each step."""
    visits: float = 0.0
    """Leave this share of the settled examples out of an epoch, and weigh the others in their place."""
    rest: float | None = None
    """Freeze the layers below supports that moved by this share or less in an epoch, in the second half."""
    target_error: float | None = None
    """Stop when the live test error, in %, is this or lower."""
    order: Literal["shuffle", "balanced"] = "shuffle"
    """Of examples; balanced gives 2, 4, 8, ... processes equal shares of each batch."""
    accumulate: int = 1
    """Run each batch in so many parts, one after another, to fit memory."""
    sync_batch_norm: bool = False
    """Several GPUs: take batch norm's statistics over the whole batch."""
    timeout: float = 600.0
    """Several processes: seconds that one waits for the others."""
    seed: int = 0
    """Of the initial weights, the order of examples, augmentation and dropout."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes the GPU where there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes in bfloat16 where that is safe (autocast)."""
    channels_last: bool = False
    """Keep images channels-last in memory, which GPUs prefer."""
    warmup: str = "2"
    """instance, batch: epochs of ordinary training before the first support stroke, or 'plateau'."""
    gap: int = 2
    """instance: length of a weight stroke, in epochs at most."""
    drift: float = 0.08
    """instance: end a weight stroke when this share of the units has changed sides; 0 holds on."""
    watch: Literal["probe", "certificate"] = "probe"
    """instance: tell the drift by recording a probe anew, or from the weights alone (plain nets only)."""
    refresh: Literal["sweep", "online", "running"] = "sweep"
    """instance: find supports in a pass of its own, while an ordinary epoch runs, or while held ones run."""
    statistics: int = 2048
    """instance: examples that batch norm's statistics are estimated anew from before a sweep; 0: not."""
    keep: float | None = None
    """instance: at a sweep after the first, sites that moved by this share or less keep their masks."""
    penalty: float = 0.0
    """instance: weight of the term that keeps pre-activations on their held side."""
    gated: bool | None = None
    """instance, batch: hold m ∘ ReLU(q) instead of m ∘ q; left out, it is on for batch and off for instance."""
    store: Literal["auto", "device", "host", "file"] = "auto"
    """instance: where masks live: beside the model, in host memory, in a file of the run's folder."""
    density: float = 0.9
    """batch: share of the units that the mask keeps."""

    def settings(self) -> Settings:
        """The part that is the same for every alternation."""
        shared = {f.name for f in fields(Settings)} & {f.name for f in fields(self)}
        values = {name: getattr(self, name) for name in shared}
        values["visits"] = Selective(drop=self.visits) if self.visits else None
        values["rest"] = None if self.rest is None else Settled(drift=self.rest)
        return Settings(**values)

    def kind(self) -> Alternation:
        """The alternation that is asked for."""
        if self.warmup == "plateau":
            warmup: int | Plateau = Plateau()
        elif self.warmup.isdecimal():
            warmup = int(self.warmup)
        else:
            raise SettingsError(f"warmup is a number of epochs or 'plateau', not {self.warmup!r}")
        if self.alternation == "instance":
            return InstanceWise(
                warmup=warmup,
                gap=self.gap,
                drift=self.drift or None,
                watch=self.watch,
                refresh=self.refresh,
                statistics=self.statistics,
                keep=self.keep,
                penalty=self.penalty,
                gated=bool(self.gated),
                store=self.store,
            )
        if self.alternation == "batch":
            return BatchWise(warmup=warmup, density=self.density, gated=self.gated is not False)
        return Live()


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Where a run goes and where it comes from."""

    out: Path | None = None
    """Folder for the run, needed unless --resume is given; must not hold one already."""
    preset: Literal["none", "fast"] = "none"
    """fast: --optimizer muon --average 0.98, under whatever else is given; left alone, muon goes by --lr 0.05
    and --weight-decay 0.3. About half the epochs then do."""
    config: Path | None = None
    """TOML file with any of the options below, such as config.toml of another run."""
    resume: Path | None = None
    """Folder of a run that was stopped: go on with it, with its own settings."""


def train(
    options: Annotated[TrainOptions, tyro.conf.arg(name="")] = TrainOptions(),
    what: Annotated[TrainConfig, tyro.conf.arg(name="")] = TrainConfig(),
) -> int:
    """Train a model, by alternation or by an ordinary optimiser, and keep the run in a folder.

    Ctrl-C stops after the step under way; `twostroke train --resume FOLDER` goes on from the last
    whole epoch, and so it does after a crash or a kill. Exit codes: 0 finished, 1 diverged, 2 bad input,
    a damaged file or a full disk, 3 a process was lost, 130 stopped by Ctrl-C or SIGTERM.

    Several processes share the work: torchrun --nproc-per-node 8 -m twostroke train ..., or accelerate
    launch -m twostroke train ...
    """
    resume = options.resume is not None
    if options.resume is not None:
        refuse_beside_resume(replace(options, resume=None), what)
        run = RunFolder(options.resume)
        what = from_toml(run.config_file, TrainConfig)
    settings, kind = what.settings(), what.kind()
    origin(what.model)  # a slip in a name is told before data are fetched
    if options.resume is None and options.out is None:
        raise SettingsError("say where the run is to go: --out runs/NAME")
    processes = processes_of(settings)
    console = Console(quiet=not processes.main)
    with processes.together():
        processes.device(settings.device) or settings.torch_device()
        if processes.first_here:  # downloads what is to be downloaded
            data = _data(what)
    with processes.together():
        if not processes.first_here:
            data = _data(what)
        torch_seed(what.seed)
        model = create_model(what.model, classes=len(data.classes), in_channels=data.train.shape[0])
        if options.resume is None:
            assert options.out is not None
            run = RunFolder(options.out)
            if processes.main:
                RunFolder.create(options.out, plain(what))
    name = f"{what.model}, {what.alternation}"
    if resume and not run.begun:  # killed before its first checkpoint: from the beginning, then
        with processes.together():
            if processes.main:
                run.clear()
        resume = False
    done = Checkpoint(run.path).epochs() if resume else 0
    console.print(
        f"{what.model} on {data.name} ({data.note}), {_describe(kind)}, "
        + (
            f"{done} of {what.epochs} epochs done before"
            if done
            else f"{what.epochs} epoch{'s' * (what.epochs > 1)}"
        )
        + (f", {processes.count} processes" if processes.count > 1 else ""),
        highlight=False,
    )
    fresh = options.resume is None
    told: list[str] = []

    def notice(text: str) -> None:
        told.append(text)
        console.print(text, highlight=False, soft_wrap=True)

    try:
        with RunBar(console, what.alternation) as bar, stoppable():
            result = fit(
                model,
                data,
                alternation=kind,
                settings=settings,
                callback=bar.epoch,
                progress=bar.step,
                folder=run.path,
                resume=resume,
                identity=plain(what),
                notice=notice,
            )
    except TwostrokeError:
        if processes.main and fresh and not run.begun:
            run.discard()
        raise
    if processes.main:
        run.save_history(result.history)
        run.save_model(model, result.average)
        try:
            draw_curves(
                {name: result.history}, run.curves_file, title=f"{what.model} on {data.name}"
            )
        except OSError as error:
            raise RunFolderError(f"{run.curves_file} could not be written: {error}") from error
    last = (
        f"live test error {result.error:.2f} %" if len(result.history) else "no epoch was completed"
    )
    detail = f" ({result.detail})" if result.detail else ""
    console.print(f"{result.status.value}{detail}", highlight=False)
    for note in result.notes:
        if note not in told:
            console.print(note, highlight=False, soft_wrap=True)
    console.print(f"{last}; everything is in {run.path}", highlight=False, soft_wrap=True)
    if result.status is Status.INTERRUPTED:
        console.print(
            f"go on with: twostroke train --resume {run.path}", highlight=False, soft_wrap=True
        )
        return 130
    return 1 if result.status is Status.DIVERGED else 0


def _data(what: TrainConfig) -> Data:
    return load(
        what.data,
        root=what.data_root,
        augmentation=None if what.augment == "none" else what.augment,
        preprocess=what.preprocess,
    )


def torch_seed(seed: int) -> None:
    """Seed the initial weights."""
    import torch

    torch.manual_seed(seed)


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """Arguments of `train` with what --preset and --config stand for written before them.

    The last of two arguments counts: the command line over the file, the file over the preset.
    """
    before: list[str] = []
    for option in ("preset", "config"):
        value = _value_of(arguments, option)
        if option == "preset" and value in PRESETS:
            before += _as_arguments(PRESETS[value])
        elif option == "config" and value is not None:
            before += _as_arguments(options_of(Path(value), TrainConfig))
    return [*before, *arguments]


def _value_of(arguments: Sequence[str], option: str) -> str | None:
    value = None
    for k, argument in enumerate(arguments):
        if argument == f"--{option}" and k + 1 < len(arguments):
            value = arguments[k + 1]
        elif argument.startswith(f"--{option}="):
            value = argument.partition("=")[2]
    return value


def _as_arguments(values: Mapping[str, Any]) -> list[str]:
    flags = {f.name for f in fields(TrainConfig) if str(f.type) == "bool"}
    spelled = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if name in flags:
            spelled.append(f"--{option}" if value else f"--no-{option}")
        else:
            spelled += [f"--{option}", str(value)]
    return spelled


def _describe(kind: Alternation) -> str:
    if isinstance(kind, InstanceWise):
        return "instance-wise alternation"
    return "batch-wise alternation" if isinstance(kind, BatchWise) else "no alternation"


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM stops like Ctrl-C, so that a scheduler's kill loses nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("SIGTERM")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
