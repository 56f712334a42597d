"""Two processes give the run of one: the same weights, figures, files, and errors said once."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import twostroke as ts
from tests.listening import told
from tests.processes.several import CASES, COLUMNS, STEADY, launch, outcome
from tests.toy import toy_data, toy_net, toy_tensors
from twostroke.cli.options import from_toml, plain
from twostroke.cli.train import TrainConfig
from twostroke.errors import RunFolderError, SettingsError
from twostroke.guidance.students import load_student
from twostroke.processes import Processes, launched, processes_of
from twostroke.runs import History
from twostroke.runs.shares import checksum_of, load_share, support_file
from twostroke.support import bits


def finish(processes: list[subprocess.Popen], seconds: float = 300) -> list[tuple[str, str]]:
    """What each printed; none is left behind."""
    try:
        return [p.communicate(timeout=seconds) for p in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Toy images, enlarged so that allcnn-mini takes them, and a run to go on with."""
    path = tmp_path_factory.mktemp("several")
    sets = {}
    for name, seed in (("train", 0), ("test", 1)):
        x, y = toy_tensors(120, seed)
        x = ((x + 3) * 40).clamp(0, 255).byte().repeat_interleave(2, 2).repeat_interleave(2, 3)
        sets |= {f"x_{name}": x.numpy(), f"y_{name}": y.numpy()}
    np.savez(path / "toy.npz", **sets)
    outcome("instance", folder=path / "by-1", **(STEADY | {"epochs": 3}))
    outcome("file", folder=path / "file-1", **(STEADY | {"epochs": 3}))
    return path


@pytest.fixture(scope="module")
def reports(folder) -> list[dict]:
    """What two processes did, see `several.main`."""
    processes = launch(
        2, "-m", "tests.processes.several", str(folder), cwd=Path(__file__).parents[2]
    )
    said = finish(processes)
    assert [p.returncode for p in processes] == [0, 0], said
    return [json.loads((folder / f"process-{k}.json").read_text()) for k in range(2)]


def same_run(one: dict, two: dict) -> None:
    assert two["status"] == "FINISHED"
    assert two["names"] == one["names"]
    assert two["phases"] == one["phases"]
    assert two["errors"] == pytest.approx(one["errors"], abs=1e-9)
    for name in COLUMNS:
        assert [v is None for v in two[name]] == [v is None for v in one[name]], name
        pairs = [(a, b) for a, b in zip(one[name], two[name], strict=True) if a is not None]
        assert [b for _, b in pairs] == pytest.approx([a for a, _ in pairs], rel=1e-4), name
    a, b = torch.tensor(one["weights"]), torch.tensor(two["weights"])
    assert (a - b).norm() < 1e-4 * a.norm()


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_run_of_one(reports, case):
    one, (first, second) = outcome(case), (report[case] for report in reports)
    same_run(one, first)
    assert second["weights"] == first["weights"]
    assert {n: second[n] for n in COLUMNS} == {n: first[n] for n in COLUMNS}
    # no support is stored twice, and none is left out
    assert first["stored"] + second["stored"] == one["stored"]
    assert abs(first["stored"] - second["stored"]) <= one["stored"] / 20


def test_a_run_goes_on_in_another_number_of_processes(reports, folder):
    whole = outcome("instance", **STEADY)
    for report in reports:
        same_run(whole, report["from one"])
        assert report["from one"]["notes"][-1] == (
            "the stored supports of 1 process were shared out to 2; none was estimated again"
        )
    names = sorted(p.name for p in (folder / "by-2").iterdir())
    assert names == [
        "checkpoint.safetensors",
        "support-2-1-of-2.safetensors",
        "support-2-2-of-2.safetensors",
    ]
    ended = outcome("instance", seed=9, folder=folder / "by-2", resume=True, **STEADY)
    same_run(whole, ended)
    assert "2 processes were shared out to 1" in " ".join(ended["notes"])
    names = sorted(p.name for p in (folder / "by-2").iterdir())
    assert names == ["checkpoint.safetensors", "support-3.safetensors"]


def test_a_run_with_masks_in_files_goes_on_in_another_number_of_processes(reports, folder):
    whole = outcome("file", **STEADY)
    for report in reports:
        same_run(whole, report["file from one"])
        assert "1 process were shared out to 2" in " ".join(report["file from one"]["notes"])
        same_run(whole, report["file again"])
    two = ["process-1-of-2", "process-2-of-2"]
    for name in ("file-1", "file-22"):  # of what one process kept nothing is left
        assert sorted(p.name for p in (folder / name).iterdir()) == ["checkpoint.safetensors", *two]
    ended = outcome("file", seed=9, folder=folder / "file-2", resume=True, **STEADY)
    same_run(whole, ended)
    assert "2 processes were shared out to 1" in " ".join(ended["notes"])
    names = sorted(p.name for p in (folder / "file-2").iterdir())
    assert names == ["checkpoint.safetensors", "support-3.store"]


def test_only_the_main_process_calls_back_and_batch_norm_ends_the_same(reports):
    first, second = reports
    assert first["calls"] == [1, 2, 3, 4]
    assert second["calls"] == []
    assert first["normed"] == second["normed"]
    assert first["normed"]["error"] < 20
    assert not any(first["normed"]["training"])


def test_what_one_process_refuses_all_refuse(reports):
    first, second = (report["refused"] for report in reports)
    assert second["elsewhere"]["kind"] == "SettingsError"
    assert first["elsewhere"]["kind"] == "ElsewhereError"
    assert first["elsewhere"]["text"] == f"process 1: {second['elsewhere']['text']}"
    assert "set batch_size to 2 or more" in first["all"]["text"]
    assert "BatchEnergy or MajorityVote" in first["rule"]["text"]
    assert "no mean over the examples of a batch" in first["loss"]["text"]
    assert "between GPUs only" in first["norm"]["text"]
    assert "'auto', 'cpu' or 'cuda'" in first["device"]["text"]


def test_a_command_prints_in_one_process_and_complains_once(reports, folder):
    first, second = (report["cli"] for report in reports)
    for name, message in {
        "unknown option": "--epochz",
        "no data": "nowhere.npz",
        "large batch": "larger than the 120",
    }.items():
        assert (first[name]["code"], second[name]["code"]) == (2, 2)
        assert message in first[name]["err"]
        assert second[name]["err"] == second[name]["out"] == ""
    assert first["run"]["code"] == second["run"]["code"] == 0
    assert "2 processes" in first["run"]["out"].replace("\n", " ")
    assert second["run"]["out"] == second["run"]["err"] == ""
    assert len(History.load(folder / "cli" / "metrics.csv")) == 1
    assert first["distill"]["code"] == second["distill"]["code"] == 0, (
        first["distill"],
        second["distill"],
    )
    assert "by outputs alone" in first["distill"]["out"]
    assert second["distill"]["out"] == second["distill"]["err"] == ""
    student = load_student(folder / "student" / "student.safetensors")
    assert student.features[0].weight.shape[0] == 12


def wait_for(path: Path, processes: list[subprocess.Popen]) -> None:
    for _ in range(600):
        if path.exists() or any(p.poll() is not None for p in processes):
            return
        time.sleep(0.1)


def test_a_lost_process_ends_the_run_which_goes_on_and_is_stopped(folder):
    out = folder / "lost"
    train = ["-m", "twostroke", "train"]
    options = ["--device", "cpu", "--data", f"npz:{folder / 'toy.npz'}", "--batch-size", "40"]
    options += ["--alternation", "instance", "--epochs", "2000", "--lr", "0.01", "--timeout", "30"]
    processes = launch(2, *train, *options, "--out", str(out))
    wait_for(out / "support-1-2-of-2.safetensors", processes)
    processes[1].kill()
    (_, complaint), _ = finish(processes, seconds=60)
    assert processes[0].returncode == 3, complaint
    assert "another process of this run is gone" in complaint
    assert "go on from its last checkpoint" in complaint
    # the same run once more, stopped as Ctrl-C in a terminal would
    before = (out / "checkpoint.safetensors").stat().st_mtime_ns
    processes = launch(2, *train, "--resume", str(out))
    for _ in range(600):
        if (out / "checkpoint.safetensors").stat().st_mtime_ns > before:
            break
        time.sleep(0.1)
    for process in processes:
        process.send_signal(signal.SIGINT)
    (said, complaint), (silent, _) = finish(processes, seconds=60)
    assert [p.returncode for p in processes] == [130, 130], complaint
    assert "--resume" in said
    assert silent == ""

    # and in one process
    def stop():
        raise KeyboardInterrupt

    config = from_toml(out / "config.toml", TrainConfig)
    done = len(History.load(out / "metrics.csv"))
    result = ts.fit(
        ts.models.create_model("allcnn-mini", classes=4, in_channels=1),
        ts.data.load(config.data),
        alternation=config.kind(),
        settings=config.settings,
        folder=out,
        resume=True,
        identity=plain(config),
        listener=told(step=lambda where: stop() if where.epoch > done else None),
    )
    assert len(result.history) == done + 1


# -- one process ---------------------------------------------------------------------------------


def test_every_example_has_one_owner_and_one_row():
    for count in (1, 2, 3, 7):
        everyone = [Processes() for _ in range(count)]
        for index, process in enumerate(everyone):
            process.index, process.count = index, count
        indices = torch.randperm(23)
        shares = [p.share(indices) for p in everyone]
        assert torch.equal(torch.cat(shares).sort().values, torch.arange(23))
        assert torch.equal(torch.cat([p.part(indices) for p in everyone]), indices)
        for process, share in zip(everyone, shares, strict=True):
            owned = process.owned(23)
            assert torch.equal(share.sort().values, owned)
            assert torch.equal(process.row(owned), torch.arange(len(owned)))
            assert torch.equal(process.share(process.stand_in), process.stand_in)


def test_a_process_without_examples_stands_in_and_is_idle_until_the_block_ends():
    process = Processes()
    process.index, process.count = 1, 2
    with process.taking(torch.tensor([0, 2])) as mine:
        assert mine.tolist() == [1]
        assert process.idle
        with process.taking(torch.tensor([2, 3])) as mine:
            assert mine.tolist() == [3]
            assert not process.idle
        assert process.idle
    assert not process.idle


@pytest.mark.parametrize("saved", [1, 2, 3])
@pytest.mark.parametrize("now", [1, 2, 4])
def test_supports_are_shared_out_row_by_row(tmp_path, saved, now):
    support = ts.record(toy_net().eval(), toy_tensors(11)[0])
    sums = []
    for k in range(saved):
        part = support[torch.arange(k, 11, saved)]
        part.save(support_file(tmp_path, 4, k, saved))
        sums.append(checksum_of(part))
    for k in range(now):
        process = Processes()
        process.index, process.count = k, now
        mine = load_share(tmp_path, 4, saved, process, sums)
        assert mine == support[torch.arange(k, 11, now)]
        with pytest.raises(RunFolderError, match="another run"):
            load_share(tmp_path, 4, saved, process, [s + 1 for s in sums])


@pytest.mark.parametrize("rule", [ts.BatchEnergy(density=0.4), ts.MajorityVote(beta=0.2)])
def test_rules_of_a_batch_add_up(rule):
    """Parts that know the whole's sums give the whole's mask."""
    from dataclasses import replace

    q = torch.randn(12, 3, 4, dtype=torch.float64)
    whole, parts = rule(q), q.split([5, 7])
    seen = []

    def note(sums, examples):
        seen.append((sums, examples))
        return sums, examples

    for part in parts:
        replace(rule, total=note)(part)
    sums = sum(s for s, _ in seen)
    for part in parts:
        mask = replace(rule, total=lambda s, n: (sums, sum(n for _, n in seen)))(part)
        assert torch.equal(mask, whole)
    assert bits.pack(whole).shape[0] == 1


def test_a_batch_run_in_parts_descends_as_the_whole():
    whole = outcome("instance, drift")
    parts = outcome("instance, drift", accumulate=7)
    same_run(whole, parts)
    with pytest.raises(SettingsError, match="accumulate=1"):
        ts.fit(toy_net(), toy_data(), alternation=ts.BatchWise(), accumulate=2)
    with pytest.raises(SettingsError, match="has no 5 parts"):
        ts.fit(toy_net(), toy_data(), batch_size=4, accumulate=5)


def test_one_process_that_is_told_of_others(monkeypatch):
    assert launched() == 1
    with pytest.raises(SettingsError, match="this is one"):
        processes_of(sync_batch_norm=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched() == 1  # a cluster's own variable, without a place for this process
    monkeypatch.setenv("RANK", "0")
    assert launched() == 2
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(SettingsError, match=r"pip install 'twostroke\[scale\]'"):
        processes_of(device="cpu")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(SettingsError, match="mixed_precision=fp16"):
        processes_of(device="cpu")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(SettingsError, match="FSDP"):
        processes_of(device="cpu")


def test_one_process_needs_no_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert ts.fit(toy_net(), toy_data(), epochs=1).status is ts.Status.FINISHED


def test_evaluation_in_shares_adds_up_to_evaluation():
    from twostroke.training.evaluate import mean_of, tally

    model, source = toy_net(), toy_data().test
    parts = [tally(model, source, torch.arange(k, 80, 3), F.cross_entropy) for k in range(3)]
    none = tally(model, source, torch.arange(0))
    whole = ts.evaluate(model, source)
    assert mean_of(sum(parts) + none).error == whole.error
    assert mean_of(sum(parts) + none).loss == pytest.approx(whole.loss, rel=1e-6)
