"""`twostroke export`: the model of a run as a file for other programs, checked against the model."""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from torch import Tensor, nn

from .._amounts import size
from .._files import replacing
from .._version import __version__
from ..errors import RunFolderError, SettingsError
from ..runs import About, save_weights
from ..runs.ready import load_with_about

Run = Callable[[Tensor], Tensor]
_TOLERANCE = 1e-4  # of the largest output: sums are rounded in another order


def export(
    run: tyro.conf.Positional[Path],
    *,
    format: Literal["safetensors", "torch-export", "onnx"],
    out: Path,
) -> None:
    """Write the model of a run as a file for other programs, read it back, and check its outputs.

    It takes batches of any length, of images as the model's preprocess makes them. Classes, normalisation and
    whatever else its use needs stand in the file, as JSON.

    Args:
        run: Folder of a run, or a file of its weights, such as average.safetensors.
        format: safetensors: the weights, which twostroke.load reads; torch-export: a program that PyTorch runs
            without this package; onnx: for ONNX Runtime and others (pip install 'twostroke[onnx]').
        out: The file; one that is there already is not replaced.
    """
    if out.exists():
        raise RunFolderError(f"{out} is there already: choose another --out or remove it")
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            if importlib.util.find_spec(package) is None:
                raise SettingsError(f"{package} is not installed: pip install 'twostroke[onnx]'")
    net, about = load_with_about(run)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, *about.shape, generator=draw)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        working = Console(stderr=True, markup=False).status(f"writing {format} and checking it")
        with replacing(out) as partial, working:
            again = _WRITE[format](net, about, x[:2], partial)
            apart = max(_apart(net, again, x), _apart(net, again, x[:1]))
            if not apart <= _TOLERANCE:
                raise SettingsError(
                    f"{about.model} as {format} gives other outputs than the model, by {apart:.1e} of the "
                    "largest: the file was not kept"
                )
        if format == "safetensors":
            about.save_whitening(out.parent)
    except OSError as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(f"{out} could not be written: {error}") from error
    shape = ", ".join(map(str, about.shape))
    print(
        f"{out}: {about.model}, {size(out.stat().st_size)}; takes (batch, {shape}), gives (batch, "
        f"{len(about.classes)}). Read back, its outputs differ by {apart:.1e} of the largest."
    )


def _apart(net: nn.Module, again: Run, x: Tensor) -> float:
    """The largest difference of outputs, relative to the largest output."""
    with torch.no_grad():
        wanted, got = net(x), again(x)
    return float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-9))


def _weights(net: nn.Module, about: About, x: Tensor, file: Path) -> Run:
    save_weights(file, net.state_dict(), {"twostroke": __version__, "about": about.to_json()})
    return load_with_about(file)[0]


def _program(net: nn.Module, about: About, x: Tensor, file: Path) -> Run:
    program = _traced(about, "torch-export", lambda: _exported(net, x))
    buffer = io.BytesIO()  # by name, torch wants another suffix
    torch.export.save(program, buffer, extra_files={"about.json": about.to_json()})
    file.write_bytes(buffer.getvalue())
    with file.open("rb") as written:
        again: Run = torch.export.load(io.BytesIO(written.read())).module()
    return again


def _exported(net: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def _onnx(net: nn.Module, about: About, x: Tensor, file: Path) -> Run:
    import onnxruntime

    def make() -> Any:
        return torch.onnx.export(
            _exported(net, x),
            input_names=["images"],
            output_names=["scores"],
            dynamo=True,
            verbose=False,
        )

    program = _traced(about, "onnx", make)
    about_it = {"about": about.to_json(), "classes": json.dumps(about.classes)}
    program.model.metadata_props.update(about_it)
    program.save(file, external_data=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def _traced(about: About, kind: str, make: Callable[[], Any]) -> Any:
    """What `make` gives; `SettingsError` for a network that PyTorch cannot trace."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch about itself
            return make()
    except Exception as error:  # of many kinds
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SettingsError(f"{about.model} cannot be written as {kind}: {line}") from error


_WRITE: dict[str, Callable[[nn.Module, About, Tensor, Path], Run]] = {
    "safetensors": _weights,
    "torch-export": _program,
    "onnx": _onnx,
}
