"""Supports on disk: saved whole or not at all, loaded or refused."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import safetensors.torch
import torch

import twostroke as ts
from twostroke.errors import SupportFileError
from twostroke.support import Support
from twostroke.support.support import _checksum

from .helpers import images, twice
from .test_support import SITES, made, same_masks


@pytest.mark.parametrize("examples", [0, 1, 5])
def test_saving_and_loading(tmp_path: Path, examples: int) -> None:
    support, masks = made(examples)
    support.save(tmp_path / "s.safetensors")
    again = Support.load(str(tmp_path / "s.safetensors"))
    assert again == support
    assert same_masks(again, masks)
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]
    (tmp_path / "plain").write_text("")
    modes = [(tmp_path / name).stat().st_mode for name in ("s.safetensors", "plain")]
    assert modes[0] == modes[1]


def test_saving_a_part_and_a_shared_one(tmp_path: Path) -> None:
    support, _ = made()
    for what in (support[::2], support.restrict(["a#1", "pool"]), support.restrict([])):
        what.save(tmp_path / "s")
        assert Support.load(tmp_path / "s") == what
    shared = Support(SITES, support.rows[2:3], shared=True)
    shared.save(tmp_path / "s")
    assert Support.load(tmp_path / "s") == shared


def test_what_was_loaded_outlives_its_file(tmp_path: Path) -> None:
    one, two = made(seed=1)[0], made(seed=2)[0]
    one.save(tmp_path / "s")
    loaded = Support.load(tmp_path / "s")
    two.save(tmp_path / "s")
    assert loaded == one
    (tmp_path / "s").unlink()
    assert loaded == one


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    one, two = made(seed=1)[0], made(seed=2)[0]
    one.save(tmp_path / "s")

    def breaks(tensors: object, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half of a file")
        raise KeyboardInterrupt

    with mock.patch("safetensors.torch.save_file", breaks), pytest.raises(KeyboardInterrupt):
        two.save(tmp_path / "s")
    assert Support.load(tmp_path / "s") == one
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_file_is_never_seen_half_written(tmp_path: Path) -> None:
    one, two = made(seed=1)[0], made(seed=2)[0]
    one.save(tmp_path / "s")
    real = safetensors.torch.save_file
    seen = []

    def looks(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        seen.append(Support.load(tmp_path / "s"))

    with mock.patch("safetensors.torch.save_file", looks):
        two.save(tmp_path / "s")
    assert seen == [one]
    assert Support.load(tmp_path / "s") == two


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    made(2)[0].restrict(["a#0", "pool"]).save(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SupportFileError, match=str(path)):
            Support.load(path)


def test_a_file_with_something_behind_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    made(2)[0].save(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(SupportFileError):
        Support.load(path)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_altered_byte_is_named(tmp_path: Path, flip: int) -> None:
    path = tmp_path / "s"
    made(2)[0].restrict(["a#0", "b.c"]).save(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= flip
        path.write_bytes(altered)
        with pytest.raises(SupportFileError, match=str(path)):
            Support.load(path)


SITE = {"path": "a", "call": 0, "kind": "relu", "shape": [4], "planes": 1}
HEADER = {"version": 2, "shared": False, "sites": [SITE]}


def told(text: str, rows: torch.Tensor) -> dict[str, str]:
    """What a file of these rows says of itself."""
    return {
        "twostroke-support": text,
        "checksum": _checksum(text, rows.shape, zlib.crc32(rows.numpy())),
    }


@pytest.mark.parametrize(
    "header",
    [
        {**HEADER, "version": 1},
        {**HEADER, "version": "2"},
        {**HEADER, "sites": [SITE, SITE]},
        {**HEADER, "sites": [{**SITE, "shape": [4000]}]},
        {**HEADER, "sites": [{**SITE, "shape": [2**70]}]},
        {**HEADER, "sites": [{**SITE, "shape": ["4"]}]},
        {**HEADER, "sites": [None]},
        {**HEADER, "sites": {"a": 1}},
        {**HEADER, "sites": 3},
        {**HEADER, "shared": True},
        {k: v for k, v in HEADER.items() if k != "version"},
        {k: v for k, v in HEADER.items() if k != "sites"},
        [],
        None,
        "header",
        1,
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, header: object) -> None:
    rows = {"rows": torch.zeros(2, 1, dtype=torch.uint8)}
    metadata = told(json.dumps(header), rows["rows"])
    safetensors.torch.save_file(rows, tmp_path / "s", metadata=metadata)
    with pytest.raises(SupportFileError, match=str(tmp_path / "s")):
        Support.load(tmp_path / "s")


def test_the_header_that_fits_is_read(tmp_path: Path) -> None:
    # otherwise the test above might refuse for another reason
    rows = {"rows": torch.tensor([[5], [2]], dtype=torch.uint8)}
    metadata = told(json.dumps(HEADER), rows["rows"])
    safetensors.torch.save_file(rows, tmp_path / "s", metadata=metadata)
    assert Support.load(tmp_path / "s")["a"].tolist() == [
        [True, False, True, False],
        [False, True, False, False],
    ]


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign: dict[str, Any] = {
        "weights of a model": {"rows": torch.zeros(2, 1)},
        "no metadata": {"rows": torch.zeros(2, 1, dtype=torch.uint8)},
    }
    for name, tensors in foreign.items():
        safetensors.torch.save_file(tensors, tmp_path / name)
    other = {"other": torch.zeros(2, 1, dtype=torch.uint8)}
    good = told(json.dumps(HEADER), other["other"])
    safetensors.torch.save_file(other, tmp_path / "no rows", metadata=good)
    floats = {"rows": torch.zeros(2, 1)}
    good = told(json.dumps(HEADER), floats["rows"])
    safetensors.torch.save_file(floats, tmp_path / "rows of floats", metadata=good)
    for name, text in {"not json": "{", "too deep": "[" * 100_000}.items():
        rows = {"rows": torch.zeros(2, 1, dtype=torch.uint8)}
        metadata = told(text, rows["rows"])
        safetensors.torch.save_file(rows, tmp_path / name, metadata=metadata)
    torch.save({"rows": 1}, tmp_path / "a pickle")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("Once upon a time\n" * 9)
    (tmp_path / "a long header").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    (tmp_path / "a folder").mkdir()
    assert len(list(tmp_path.iterdir())) == 11
    for path in tmp_path.iterdir():
        with pytest.raises(SupportFileError, match=path.name):
            Support.load(path)
    with pytest.raises(SupportFileError, match="there is no such file"):
        Support.load(tmp_path / "nowhere")


def test_saving_where_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="No such file"):
        made()[0].save(tmp_path / "nowhere" / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_recorded_support_serves_after_a_round_trip(tmp_path: Path) -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    support.save(tmp_path / "s")
    with ts.hold(net, Support.load(tmp_path / "s")):
        held = net(x)
    assert torch.equal(held, net(x))
