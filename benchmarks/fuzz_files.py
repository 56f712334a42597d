"""The files that fuzz.py alters: how a good one is made, altered by bytes and by what it says, and read."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tomli_w
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import twostroke as ts
from twostroke.cli.distill import DistillConfig
from twostroke.cli.dsd import DsdConfig
from twostroke.cli.options import parse as parse_options
from twostroke.cli.train import TrainConfig
from twostroke.guidance.students import Student, load_student
from twostroke.runs import About, History, RunFolder, files, read_weights, save_tensors
from twostroke.runs.checkpoint import Checkpoint
from twostroke.store.layout import Header, Origin
from twostroke.store.rounds import RoundFile, RoundWriter
from twostroke.support import support as support_file

HOSTILE: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        2**31,
        2**63,
        2**70,
        -(2**70),
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "a",
        "none",
        "nan",
        "-1",
        "1e999",
        "../x",
        "a" * 5000,
        "\ud7ff",
        "\u0000",
        "0",
        "[1]",
        "relu",
        "~",
    ),
    *([], {}, [[]], [1], [-1, 2], ["a"], [None], {"a": 1}, {"version": 1}, [2**40, 2**40], [0]),
]


class Target(NamedTuple):
    """A file of some kind: how a good one is made, altered, and read."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    alter: Callable[[random.Random, Path], object]


# -- alterations ---------------------------------------------------------------------------------


def by_bytes(draw: random.Random, path: Path) -> None:
    """Bits, bytes and pieces that are changed, lost, doubled or cut off."""
    raw = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 1, 1, 3, 20])):
        at, n = draw.randrange(len(raw) + 1), draw.choice([1, 1, 2, 8, 100])
        if draw.random() < 0.5:  # headers are at the beginning
            at = min(at, draw.randrange(200))
        what = draw.randrange(6)
        if what == 0 and at < len(raw):
            raw[at] ^= 1 << draw.randrange(8)
        elif what == 1:
            raw[at : at + n] = draw.randbytes(n)
        elif what == 2:
            del raw[at : at + n]
        elif what == 3:
            raw[at:at] = raw[at : at + n]
        elif what == 4:
            raw[at : at + n] = draw.choice([b"\xff", b"\0", b"9", b"[", b'"', b" "]) * n
        else:
            del raw[at if draw.random() < 0.1 else len(raw) - min(n, len(raw)) :]
    path.write_bytes(bytes(raw))


def other(draw: random.Random, value: Any, times: int = 1) -> Any:
    """The value with something in it replaced, lost, added or doubled."""
    for _ in range(times):
        value = _other(draw, value)
    return value


def _other(draw: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        if draw.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        if draw.random() < 0.1:
            return value | {draw.choice(["x", "", f"{key}.", "0"]): draw.choice(HOSTILE)}
        return value | {key: _other(draw, value[key])}
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.randrange(len(value))
        if draw.random() < 0.2:
            return value[:at] + value[at + 1 :] if draw.random() < 0.5 else [*value, *value]
        return [*value[:at], _other(draw, value[at]), *value[at + 1 :]]
    if isinstance(value, int | float) and draw.random() < 0.3:
        return draw.choice([value + 1, value - 1, -value, value * 1000])
    return draw.choice(HOSTILE)


def by_header(
    seal: Callable[[Path, dict[str, str], dict[str, torch.Tensor]], None], *keys: str
) -> Any:
    """Alter a safetensors file's JSON or tensors, then `seal` it: checksums as if it had been written so."""

    def alter(draw: random.Random, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            told = dict(file.metadata() or {})
            tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
        key = draw.choice(keys)
        if draw.random() < 0.8:
            told[key] = json.dumps(other(draw, json.loads(told[key]), draw.choice([1, 1, 2, 4])))
        else:
            name = draw.choice(list(tensors))
            shapes = [
                tensors[name].flatten()[:1],
                tensors[name].double(),
                torch.zeros(0),
                torch.zeros(2, 3),
                torch.tensor(7),
            ]
            tensors[draw.choice([name, name, name + "x", "y"])] = draw.choice(shapes).clone()
            if draw.random() < 0.3:
                del tensors[name]
        path.unlink()
        seal(path, told, tensors)

    return alter


def seal_run(path: Path, told: dict[str, str], tensors: dict[str, torch.Tensor]) -> None:
    told.pop(files._CHECKSUM, None)
    save_tensors(path, tensors, told)


def seal_support(path: Path, told: dict[str, str], tensors: dict[str, torch.Tensor]) -> None:
    rows = tensors.get("rows", torch.zeros(1))
    crc = zlib.crc32(rows.numpy())
    told["checksum"] = support_file._checksum(told[support_file._FORMAT], rows.shape, crc)
    save_file(tensors, path, told)


def by_toml(draw: random.Random, path: Path) -> None:
    values = other(draw, tomllib.loads(path.read_text()), draw.choice([1, 1, 2, 3]))
    with contextlib.suppress(TypeError, ValueError, AttributeError):  # what TOML has no word for
        path.write_text(tomli_w.dumps(values))


def by_json(draw: random.Random, path: Path) -> None:
    path.write_text(json.dumps(other(draw, json.loads(path.read_text()), draw.choice([1, 2, 3]))))


def by_arrays(draw: random.Random, path: Path) -> None:
    arrays = dict(np.load(path))
    for _ in range(draw.choice([1, 2])):
        key = draw.choice([*arrays, "classes"])
        kinds = ["u1", "i8", "f4", "?", "U3", "S2", "c8", "M8[s]", "i2,f4", ">i4", "f2"]
        sides = [draw.choice([0, 1, 2, 3, 8, 20]) for _ in range(draw.randrange(5))]
        made = np.zeros(sides, draw.choice(kinds))
        arrays[key] = draw.choice(
            [
                made,
                made,
                np.array(arrays.get(key, made)).T,
                np.full(20, draw.choice([-1, 9, 2**40])),
            ]
        )
        if draw.random() < 0.1:
            arrays.pop(key)
    np.savez(path, **arrays)


def either(
    *ways: Callable[[random.Random, Path], object],
) -> Callable[[random.Random, Path], object]:
    return lambda draw, path: draw.choice(ways)(draw, path)


# -- the files ------------------------------------------------------------------------------------


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(9, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)
    )


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(0)), torch.arange(
        20
    ) % 2


def fitted(folder: Path, store: str, resume: bool = False) -> ts.Status:
    held = ts.InstanceWise(warmup=0, gap=9, store=store)
    options = {"epochs": 1, "batch_size": 10, "ema_decay": 0.9, "optimizer": "adamw"}
    return ts.fit(
        net(), examples(), alternation=held, folder=folder, resume=resume, **options
    ).status


def make_checkpoint(path: Path) -> Path:
    fitted(path, "host")
    return Checkpoint(path).file


def make_guide(path: Path) -> Path:
    ts.Guide.record(net().eval(), examples()[0]).save(path)
    return path


def make_support(path: Path) -> Path:
    ts.record(net().eval(), examples()[0]).save(path)
    return path


def make_round(path: Path) -> Path:
    support = ts.record(net().eval(), examples()[0])
    writer = RoundWriter(path, Header(support.sites, 20, Origin()))
    writer.write(torch.arange(20), support.rows)
    writer.publish().close()
    return path


def make_model(path: Path) -> Path:
    about = About("allcnn-mini", ("a", "b"), (1, 8, 8), (0.5,), (0.5,))
    net_ = ts.models.create_model("allcnn-mini", classes=2, in_channels=1)
    save_tensors(path, net_.state_dict(), {"about": about.to_json()})
    return path


def read_model(path: Path) -> object:
    plain = ts.models.create_model("allcnn-mini", classes=2, in_channels=1)
    _, header = read_weights(path)
    return About.of_header(header, path), RunFolder(path.parent).load_model(plain)


def make_student(path: Path) -> Path:
    student = Student(model="allcnn-mini", classes=2, in_channels=1)
    student.save(path, student.build())
    return path


def make_npz(path: Path) -> Path:
    x, y = (np.zeros((20, 6, 6), np.uint8), np.arange(20) % 2)
    np.savez(path, x_train=x, y_train=y, x_test=x[:8], y_test=y[:8], classes=np.array(["a", "b"]))
    return path.with_suffix(".npz") if not path.exists() else path


def make_idx(path: Path) -> Path:
    """MNIST's files, with few images; one of them is altered."""
    raw = path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 20), ("t10k", 8)):
        head = struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(
            head + bytes(k % 251 for k in range(count * 784))
        )
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(k % 10 for k in range(count))
        )
    return raw / "train-images-idx3-ubyte"


def read_idx(path: Path) -> object:
    return ts.data.load("mnist", root=path.parents[2], download=False)


def make_metrics(path: Path) -> Path:
    ts.fit(net(), examples(), epochs=2, batch_size=10).history.save(path)
    return path


TOML = {
    TrainConfig: 'model = "nin"\nalternation = "instance"\nepochs = 3\nlr = 0.1\nema_decay = 0.9\nseed = 1\n'
    'probe = 9\nbatch_size = 5\noptimizer = "muon"\nschedule = "cosine"\nprecision = "fp32"\ndevice = "cpu"\n'
    '[instance]\nwarmup = 1\ngap = 2\nstore = "host"\ndrift = 0.1\n[batch]\n',
    DsdConfig: 'model = "resnet18"\nmask = "magnitude"\nratio = 0.3\nepochs = [1, 2, 3]\n'
    "lrs = [0.1, 0.1, 0.1]\nbatch_size = 4\n",
    DistillConfig: 'teacher = "x"\ndata = "npz:y"\nexamples = 9\nwidth = 0.5\nsteps = 3\nlr = 0.1\n',
}


def make_toml(kind: type) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_text(TOML[kind])
        return path

    return make


def read_toml(kind: type) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        made = parse_options(kind, "twostroke x", ["--config", str(path), "--out", "o"])
        return [
            getattr(made, name)()
            for name in ("kind", "weight_mask", "check")
            if hasattr(made, name)
        ]

    return read


def made_in(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    return lambda folder: make(folder / "file")


TARGETS = {
    "support": Target(
        made_in(make_support),
        ts.Support.load,
        either(by_bytes, by_header(seal_support, support_file._FORMAT)),
    ),
    "guide": Target(
        made_in(make_guide),
        ts.Guide.load,
        either(by_bytes, by_header(seal_run, "twostroke-guide")),
    ),
    "store": Target(made_in(make_round), lambda p: RoundFile.open(p).close(), by_bytes),
    "checkpoint": Target(
        make_checkpoint,
        lambda p: fitted(p.parent, "host", resume=True),
        either(by_bytes, by_header(seal_run, "twostroke-checkpoint")),
    ),
    "weights": Target(
        lambda p: make_model(p / "model.safetensors"),
        read_model,
        either(by_bytes, by_header(seal_run, "about")),
    ),
    "student": Target(
        made_in(make_student),
        load_student,
        either(by_bytes, by_header(seal_run, "twostroke-student")),
    ),
    "npz": Target(
        made_in(make_npz), lambda p: ts.data.load(f"npz:{p}"), either(by_bytes, by_arrays)
    ),
    "idx": Target(make_idx, read_idx, by_bytes),
    "metrics": Target(made_in(make_metrics), History.load, by_bytes),
    **{
        f"{kind.__name__}, TOML": Target(
            made_in(make_toml(kind)), read_toml(kind), either(by_bytes, by_toml, by_toml)
        )
        for kind in TOML
    },
}
