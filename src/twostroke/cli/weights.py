"""Weights that a network begins with or teaches by: published ones, a file's, or those of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from ..data import Data, Preparation
from ..errors import RunFolderError, SettingsError
from ..models import create_model
from ..models.catalog import origin
from ..models.outside import ends
from ..models.published import Published, published
from ..runs import About, RunFolder, load_weights, read_tensors, save_text
from .options import DataOptions

SOURCES = ("torchvision", "timm")
_KEPT = "weights.json"


@dataclass(frozen=True)
class Weights:
    """Weights, and what their use needs as far as it is known.

    Either `published`, or of a `file`, which `about` tells of; `config` is of the run that it belongs to.
    """

    published: Published | None = None
    file: Path | None = None
    about: About | None = None
    config: dict[str, Any] | None = None

    @classmethod
    def of(cls, name: str, model: str) -> Weights:
        """ "torchvision", "timm", a file of safetensors, or the folder of a run.

        Raises `SettingsError` for published weights of a model that has none, and a name that is nothing.
        """
        if name in SOURCES:
            if origin(model)[0] != name:
                raise SettingsError(
                    f"--weights {name}: {model} is not one of {name}'s models. Give the folder of a run of "
                    "`twostroke train` with this model, or leave --weights out"
                )
            return cls(published=published(model))
        path, config = Path(name), {}
        if path.is_dir():
            # weights of a phase belong to the run above
            run = RunFolder(path.parent.parent if path.parent.name == "phases" else path)
            config = run.config() if run.config_file.exists() else {}
            path = RunFolder(path).model_file
        if not path.is_file():
            lacks = "it has no model.safetensors" if Path(name).is_dir() else "nothing is there"
            raise SettingsError(
                f"--weights {name}: {lacks}. Give torchvision, timm, the folder of a run of `twostroke train`, "
                "or a file of safetensors"
            )
        if path.suffix != ".safetensors":
            raise SettingsError(
                f"--weights {name} is not a file of safetensors; others may run code when they are read. "
                "Write the weights by safetensors.torch.save_file(model.state_dict(), FILE)"
            )
        _, header = read_tensors(path, unchecked=True)
        about = About.read(path) if "about" in header else None
        if about is not None and about.student:
            raise SettingsError(
                f"{path} is a student itself ({', '.join(name for name, _ in about.student)}): load it by "
                "guidance.students.load_student"
            )
        return cls(file=path, about=about, config=config)

    @property
    def prepared(self) -> Preparation:
        """How images were prepared for these weights."""
        known = self.published or self.about
        if known is None:
            return Preparation()
        crop = {} if self.published is None else {"crop": self.published.crop}
        return Preparation(known.shape, known.mean, known.std, **crop)

    def notes(self, *, data: str, preprocess: str) -> list[str]:
        """What is worth knowing of them before training on some data.

        Raises `SettingsError` where images were prepared in another way.
        """
        if self.published is not None:
            if preprocess != "none":
                raise SettingsError(
                    "published weights take images that are normalised channel by channel: leave "
                    "--preprocess out"
                )
            return [
                f"weights {self.published.tag} of {self.published.model}; images are prepared as for these"
            ]
        config = self.config or {}
        theirs = config.get("preprocess", self.about.preprocess if self.about else preprocess)
        if theirs != preprocess:
            raise SettingsError(
                f"the run in {self.file} prepared its images with --preprocess {theirs}, and this one would "
                f"with --preprocess {preprocess}: give --preprocess {theirs}"
            )
        if config.get("data", data) != data:
            return [
                f"the weights in {self.file} were trained on {config['data']}, and this run is on {data}"
            ]
        return []

    def network(
        self, model: str, classes: Sequence[str], channels: int
    ) -> tuple[nn.Module, list[str]]:
        """The model with these weights, and the layers that they do not fit and are drawn anew, in words.

        The first layer may have other channels. The last one may have other classes, by number or by name.
        Raises `RunFolderError` where another layer differs, and `WeightsError` where they cannot be fetched.
        """
        if self.published is not None:
            return self.published.build(classes=len(classes), in_channels=channels)
        assert self.file is not None
        net = create_model(model, classes=len(classes), in_channels=channels)
        tensors, _ = read_tensors(self.file, unchecked=True)
        own, fresh = net.state_dict(), []
        first, last = ends(net)
        renamed = self.about is not None and not same_classes(self.about.classes, classes)

        def odd(path: str) -> bool:
            names = [name for name in own if name.startswith(f"{path}.") and name in tensors]
            return any(tensors[name].shape != own[name].shape for name in names)

        def keep(path: str) -> None:
            tensors.update({name: own[name] for name in own if name.startswith(f"{path}.")})

        if odd(first) and first != last:
            keep(first)
            fresh.append(f"the first layer (for {channels} channels)")
        if odd(last) or renamed:
            keep(last)
            fresh.append(f"the last layer (for {len(classes)} classes)")
        of = self.about.model if self.about else (self.config or {}).get("model")
        load_weights(net, tensors, self.file, of=of)
        return net, fresh


@dataclass
class Start:
    """How a run begins. Its folder keeps that, so that it goes on without the file of its weights.

    `prepared` says how images are, `fresh` which layers the weights do not fit.
    """

    weights: Weights | None = None
    prepared: Preparation | None = None
    fresh: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        weights: str | None,
        model: str,
        *,
        data: str,
        preprocess: str,
        begun: Path | None = None,
    ) -> Start:
        """From the options of a command; `begun` is the folder of a run that has a checkpoint.

        Raises as `Weights.of` and `Weights.notes`.
        """
        if weights is None:
            return cls()
        if begun is not None and weights not in SOURCES:
            return cls.kept(begun)
        found = Weights.of(weights, model)
        notes = found.notes(data=data, preprocess=preprocess)
        return cls(found, found.prepared, notes=[] if begun else notes)

    @classmethod
    def kept(cls, folder: Path) -> Start:
        """What the folder of a run says of its beginning; `RunFolderError` where it does not."""
        file = folder / _KEPT
        try:
            kept = json.loads(file.read_text())
            numbers: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in kept["prepared"].items()
            }
            return cls(None, Preparation(**numbers), list(kept["fresh"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{file} does not say how the run began ({error}): it is missing or damaged"
            ) from error

    def network(self, model: str, data: Data) -> nn.Module:
        """The network to train; sets `fresh`."""
        classes, channels = data.classes, data.train.shape[0]
        if self.weights is None:
            return create_model(model, classes=len(classes), in_channels=channels)
        net, self.fresh = self.weights.network(model, classes, channels)
        return net

    def told(self, on_fresh: str = "") -> list[str]:
        """What is worth knowing; `on_fresh` is what follows from layers that are drawn anew."""
        if not self.fresh or self.weights is None:
            return self.notes
        more = f"; {on_fresh}" if on_fresh else ""
        return [*self.notes, f"drawn anew: {' and '.join(self.fresh)}{more}"]

    def keep(self, folder: Path) -> None:
        """Write it to a run's folder."""
        if self.prepared is not None:
            told = {"prepared": asdict(self.prepared), "fresh": self.fresh}
            save_text(folder / _KEPT, json.dumps(told, indent=1))

    def discard(self, folder: Path) -> None:
        """Undo `keep`."""
        (folder / _KEPT).unlink(missing_ok=True)


def data_of(
    run: RunFolder, console: Console, *, root: Path | None = None, preprocess: str | None = None
) -> Data:
    """The data that a run was trained on, prepared as there, without augmentation.

    `root` and `preprocess` may differ from the run's. Raises as `data.load` does.
    """
    config = run.config()
    names = {one.name for one in fields(DataOptions)} - {"augmentation"}
    what = DataOptions(**{name: value for name, value in config.items() if name in names})
    root = root or (Path(config["data_root"]) if "data_root" in config else None)
    kind = what.preprocess if preprocess is None else preprocess
    prepared = Start.kept(run.path).prepared if config.get("weights") else None
    return replace(what, data_root=root, preprocess=kind).load(console, prepared)


def same_classes(theirs: Sequence[str], ours: Sequence[str]) -> bool:
    """Whether labels mean the same, as far as names can tell; numbers alone tell the number only."""
    if all(name.isdecimal() for name in (*ours, *theirs)):
        return len(ours) == len(theirs)
    return tuple(ours) == tuple(theirs)
