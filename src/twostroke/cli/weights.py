"""Weights that a network begins with or teaches by: published ones, a file's, or those of a run."""

from __future__ import annotations

import copy
import json
from collections.abc import MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ..data import Data, Preparation
from ..errors import RunFolderError, SettingsError
from ..models import create_model
from ..models.catalog import check_options, origin
from ..models.outside import built_with, ends
from ..models.published import Published, published
from ..runs import About, RunFolder, load_weights, read_weights, save_text

SOURCES = ("torchvision", "timm")


@dataclass(frozen=True)
class Weights:
    """Weights, and what their use needs as far as it is known.

    Either `published`, or the `state` in a `file`, which `about` tells of; `config` is of the run that it
    belongs to.
    """

    published: Published | None = None
    file: Path | None = None
    state: MutableMapping[str, Any] = field(default_factory=dict)
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
        state, header = read_weights(path, unchecked=True)
        about = About.of_header(header, path) if "about" in header else None
        if about is not None and about.sizes:
            raise SettingsError(
                f"{path} is of a network whose layers have sizes of their own: load it by twostroke.load, and "
                "train it in Python"
            )
        return cls(file=path, state=state, about=about, config=config)

    @property
    def prepared(self) -> Preparation:
        """How images were prepared for these weights."""
        if self.about is not None:
            return self.about.prepared
        known = self.published
        if known is None:
            return Preparation()
        return Preparation(known.shape, known.mean, known.std, known.crop)

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
        """The model with these weights, and the layers that they do not fit and are drawn again, in words.

        The first layer may have other channels. The last one may have other classes, by number or by name.
        Raises `RunFolderError` where another layer differs, and `WeightsError` where they cannot be fetched.
        """
        if self.published is not None:
            return self.published.build(classes=len(classes), in_channels=channels)
        assert self.file is not None
        known = self.about
        options: Any = known.options if known is not None and known.model == model else {}
        net = create_model(model, classes=len(classes), in_channels=channels, **options)
        state, own, fresh = copy.copy(self.state), net.state_dict(), []
        first, last = ends(net)
        renamed = self.about is not None and not same_classes(self.about.classes, classes)

        def odd(path: str) -> bool:
            names = [name for name in own if name.startswith(f"{path}.") and name in state]
            return any(state[name].shape != own[name].shape for name in names)

        def keep(path: str) -> None:
            state.update({name: own[name] for name in own if name.startswith(f"{path}.")})

        if odd(first) and first != last:
            keep(first)
            fresh.append(f"the first layer (for {channels} channels)")
        if odd(last) or renamed:
            keep(last)
            fresh.append(f"the last layer (for {len(classes)} classes)")
        of = self.about.model if self.about else (self.config or {}).get("model")
        load_weights(net, state, self.file, of=of)
        return net, fresh


@dataclass
class Start:
    """How a run begins. Its folder keeps that, so that it goes on without its weights.

    `prepared` says how images are, `fresh` which layers the weights do not fit, `options` how the model is
    built.
    """

    weights: Weights | None = None
    prepared: Preparation | None = None
    fresh: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
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
        if begun is not None:
            return cls.kept(begun)
        found = Weights.of(weights, model)
        return cls(found, found.prepared, notes=found.notes(data=data, preprocess=preprocess))

    @classmethod
    def kept(cls, folder: Path) -> Start:
        """What the folder of a run says of its beginning; `RunFolderError` where it does not."""
        file = RunFolder(folder).beginning_file
        try:
            kept = json.loads(file.read_text())
            numbers: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in kept["prepared"].items()
            }
            check_options(kept["options"])
            return cls(None, Preparation(**numbers), list(kept["fresh"]), kept["options"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{file} does not say how the run began ({error}): it is missing or damaged"
            ) from error

    def network(self, model: str, data: Data) -> nn.Module:
        """The network to train; sets `fresh` and `options`."""
        classes, channels = data.classes, data.train.shape[0]
        if self.weights is None:
            return create_model(model, classes=len(classes), in_channels=channels, **self.options)
        net, self.fresh = self.weights.network(model, classes, channels)
        self.options = built_with(net)
        return net

    def told(self, on_fresh: str = "") -> list[str]:
        """What is worth knowing; `on_fresh` is what follows from layers that are drawn again."""
        if not self.fresh or self.weights is None:
            return self.notes
        more = f"; {on_fresh}" if on_fresh else ""
        return [*self.notes, f"drawn again: {' and '.join(self.fresh)}{more}"]

    def keep(self, folder: Path) -> None:
        """Write it to a run's folder."""
        if self.prepared is not None:
            told = {"prepared": asdict(self.prepared), "fresh": self.fresh, "options": self.options}
            save_text(RunFolder(folder).beginning_file, json.dumps(told, indent=1))


def same_classes(theirs: Sequence[str], ours: Sequence[str]) -> bool:
    """Whether labels mean the same, as far as names can tell; numbers alone tell the number only."""
    if all(name.isdecimal() for name in (*ours, *theirs)):
        return len(ours) == len(theirs)
    return tuple(ours) == tuple(theirs)
