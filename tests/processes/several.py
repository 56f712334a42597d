"""What each of several processes runs for test_several.py: python -m tests.processes.several FOLDER."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

import twostroke as ts
from tests.listening import told
from tests.toy import toy_data, toy_net
from twostroke.alternation import Alternation
from twostroke.data import Data, FlipShift

QUICK = {"epochs": 4, "batch_size": 30, "lr": 0.1, "probe": 41}
WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.7])
INSTANCE = ts.InstanceWise(warmup=1, gap=1, probe=33)

# each must come out as it does in one process: kind, settings
CASES = {
    "live": (None, {"max_grad_norm": 1.0, "ema_decay": 0.8}),
    "live in parts": (None, {"accumulate": 4}),
    "instance": (INSTANCE, {}),
    "instance in parts": (ts.InstanceWise(warmup=1, gap=1, penalty=0.1), {"accumulate": 3}),
    "instance, drift": (ts.InstanceWise(warmup=1, gap=9, drift=0.02, momentum="reset"), {}),
    "online": (ts.InstanceWise(warmup=1, gap=1, refresh="online"), {}),
    "batch": (ts.BatchWise(warmup=1, density=0.7), {"optimizer": "muon", "lr": 0.02}),
    "price": (ts.BatchWise(rule=ts.BatchEnergy(price=0.05)), {}),
    "vote": (ts.BatchWise(rule=ts.MajorityVote()), {}),
    "file": (ts.InstanceWise(warmup=1, gap=1, probe=33, store="file"), {}),
    "balanced": (INSTANCE, {"order": "balanced", "batch_size": 32}),
    # batches of three, of which a process often has none, and an odd last one
    "idle": (ts.InstanceWise(warmup=1, gap=1, probe=3), {"batch_size": 3, "lr": 0.02, "probe": 5}),
    "idle online": (
        ts.InstanceWise(warmup=1, gap=1, refresh="online"),
        {"batch_size": 3, "lr": 0.02, "probe": 2},
    ),
    # of batches of three, some parts have no label that counts
    "weighted": (
        ts.InstanceWise(warmup=1, gap=1, penalty=0.1),
        {"loss": nn.CrossEntropyLoss(WEIGHT, ignore_index=2, label_smoothing=0.1), "batch_size": 10}
        | {"lr": 0.02},
    ),
    "sum": (INSTANCE, {"loss": nn.CrossEntropyLoss(WEIGHT, reduction="sum"), "lr": 0.002}),
    "idle batch": (ts.BatchWise(), {"batch_size": 3, "lr": 0.02, "probe": 1}),
}
STEADY = {"epochs": 4, "schedule": "constant", "lr": 0.05}
COLUMNS = ["loss_train", "loss_live", "loss_held", "loss_test", "loss_average", "drift", "density"]


def data_of(case: str) -> Data:
    data = toy_data(augmentation=FlipShift(shift=1))
    if "idle" not in case:
        return data
    return Data("few", data.train.subset(torch.arange(25)), data.test.subset(torch.arange(9)))


def outcome(case: str, seed: int = 0, **options: object) -> dict[str, object]:
    """Train; weights and history, and how many bytes of supports were stored."""
    kind, changes = CASES[case]
    stored = []
    if isinstance(kind, ts.InstanceWise):
        kind = _Counting(kind, stored)
    model = toy_net(seed)
    settings = QUICK | changes | {"device": "cpu"} | options
    result = ts.fit(model, data_of(case), alternation=kind, **settings)
    return {
        "status": result.status.name,
        "notes": result.notes,
        "stored": stored[0]._place.nbytes if stored else 0,
        "names": list(model.state_dict()),
        "weights": torch.cat([p.detach().flatten() for p in model.parameters()]).tolist(),
        "phases": result.history.column("phase"),
        "errors": result.history.column("error"),
    } | {name: result.history.column(name) for name in COLUMNS}


class _Counting(Alternation):
    def __init__(self, kind, stored):
        self.kind, self.stored = kind, stored

    def machine(self, given):
        alternator = self.kind.machine(given)
        self.stored.append(alternator.masks)
        return alternator


class _Normed(nn.Module):
    """Batch norm, whose statistics each process takes of its own share."""

    def __init__(self):
        super().__init__()
        self.net = toy_net(norm=True)

    def forward(self, x):
        return self.net(x)


def refused(run) -> dict[str, str]:
    try:
        run()
    except ts.errors.TwostrokeError as error:
        return {"kind": type(error).__name__, "text": str(error)}
    return {"kind": "", "text": ""}


def complaint(*arguments: str) -> dict[str, object]:
    """What a command prints in this process."""
    from twostroke.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as stop:
            code = stop.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def main() -> None:
    folder = Path(sys.argv[1])
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    # processes of other initial weights start from the main one's
    report: dict[str, object] = {case: outcome(case, seed=rank) for case in CASES}
    # a run that one process began goes on here, and one that these began is ended by one process
    report["from one"] = outcome("instance", folder=folder / "by-1", resume=True, **STEADY)
    report["from two"] = outcome("instance", folder=folder / "by-2", **(STEADY | {"epochs": 3}))
    # the same with masks in files: kept by one, then two; by two, then one; by two, then two
    report["file from one"] = outcome("file", folder=folder / "file-1", resume=True, **STEADY)
    report["file from two"] = outcome("file", folder=folder / "file-2", **(STEADY | {"epochs": 3}))
    outcome("file", folder=folder / "file-22", **(STEADY | {"epochs": 3}))
    report["file again"] = outcome("file", folder=folder / "file-22", resume=True, **STEADY)
    report["calls"] = calls = []
    model = _Normed()
    again = ts.fit(
        model,
        toy_data(),
        listener=told(epoch=lambda r: calls.append(r.epoch)),
        device="cpu",
        **QUICK,
    )
    report["normed"] = {
        "statistics": [b.tolist() for b in model.buffers()],
        "error": again.error,
        "training": [m.training for m in model.modules()],
    }
    mine = {"batch_size": 1} if rank == 1 else {}  # the other has nothing against it
    data = toy_data()
    quick = {"device": "cpu", "epochs": 1}
    report["refused"] = {
        "elsewhere": refused(lambda: ts.fit(toy_net(), data, **quick, **mine)),
        "all": refused(lambda: ts.fit(toy_net(), data, **quick, batch_size=1)),
        "rule": refused(
            lambda: ts.fit(toy_net(), data, alternation=ts.BatchWise(rule=_Own()), **quick)
        ),
        "loss": refused(
            lambda: ts.fit(
                toy_net(),
                data,
                loss=lambda o, y: nn.functional.cross_entropy(o, y, WEIGHT),
                **quick,
            )
        ),
        "norm": refused(lambda: ts.fit(toy_net(), data, **quick, sync_batch_norm=True)),
        "device": refused(lambda: ts.fit(toy_net(), data, epochs=1, device="cuda:1")),
    }
    toy = f"npz:{folder / 'toy.npz'}"
    train = ["train", "--device", "cpu", "--data", toy, "--out", str(folder / "cli")]
    distill = ["distill", "--device", "cpu", "--teacher", str(folder / "cli"), "--examples", "40"]
    distill += ["--compare", "--out", str(folder / "student")]
    report["cli"] = {
        "unknown option": complaint("train", "--epochz", "3"),
        "no data": complaint(*train[:4], "npz:nowhere.npz", *train[5:]),
        "large batch": complaint(*train, "--batch-size", "5000"),
        "run": complaint(*train, "--epochs", "1", "--batch-size", "40", "--alternation", "batch"),
        "distill": complaint(*distill, "--steps", "6", "--batch-size", "20", "--width", "0.5"),
    }
    (folder / f"process-{rank}.json").write_text(json.dumps(report))


class _Own:
    shared = True

    def __call__(self, q):
        return q[:1] > 0


def interruptible() -> None:
    """For a child: Ctrl-C counts, also where these tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def launch(count: int, *command: str, **options) -> list[subprocess.Popen]:
    """Start processes as torchrun would, without its own process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=shared | {"RANK": str(k), "LOCAL_RANK": str(k)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=interruptible,
            **options,
        )
        for k in range(count)
    ]


if __name__ == "__main__":
    main()
