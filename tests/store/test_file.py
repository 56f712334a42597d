"""Supports in files: rows come back, rounds replace each other, and damage is named."""

import json
import struct
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import twostroke as ts
from twostroke.errors import StoreError, SupportFileError, SupportMismatchError
from twostroke.store import FileStore, Origin, Place
from twostroke.store.layout import BLOCKS, NOWHERE, Header, decode, table_of
from twostroke.store.rounds import RoundFile
from twostroke.support import Site, Support

SITES = (Site("a", 0, "relu", (11,)), Site("b", 0, "clamp", (3, 2), 2), Site("c", 1, "relu", (8,)))
ROW = 2 + 2 + 1


def made(examples, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 256, (examples, ROW), dtype=torch.uint8, generator=draw)
    return Support(SITES, rows)


def files(sites, examples, folder=None, origin=NOWHERE):
    return FileStore(Place(tuple(sites), examples, torch.device("cpu"), folder, origin))


def everything(store):
    return store.read(torch.arange(len(store)), "cpu")


def stroke(store, support, round_=1, part=4):
    store.begin(round_, view=round_)
    for indices in torch.randperm(len(support)).split(part):
        store.write(indices, support[indices])
    store.publish()


@pytest.fixture
def store(tmp_path):
    store = files(SITES, 23, tmp_path, Origin("m", "d", 3))
    yield store
    store.close()


@given(examples=st.integers(1, 300), seed=st.integers(0, 99), part=st.integers(1, 50))
@settings(max_examples=20, deadline=None)
def test_rows_come_back_whatever_the_order(examples, seed, part):
    support = made(examples, seed)
    store = files(SITES, examples)
    stroke(store, support, part=part)
    again = torch.randint(0, examples, (40,))
    assert store.read(again, "cpu") == support[again]
    assert everything(store) == support
    folder = store.folder
    store.close()
    assert not folder.exists()  # it was a temporary one


def test_one_bit_a_unit_rounded_up_and_a_header_that_does_not_grow(tmp_path):
    sizes = {}
    for examples in (1, 5000, 100_000):
        store = files(SITES, examples, tmp_path / str(examples))
        store.begin(1, 0)
        rows = torch.zeros(examples, ROW, dtype=torch.uint8)
        store.write(torch.arange(examples), Support(SITES, rows))
        store.publish()
        (file,) = store.folder.iterdir()
        sizes[examples] = file.stat().st_size - examples * ROW
        assert len(store) == examples
        store.close()
    assert len(set(sizes.values())) == 1
    assert sizes[1] <= 40_960


def test_a_store_through_a_real_network(tmp_path):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 5, 3), torch.nn.ReLU6(), torch.nn.MaxPool2d(2), torch.nn.ReLU()
    )
    support = ts.record(net, torch.randn(9, 1, 7, 7), pooling=True)
    store = files(support.sites, 9, tmp_path)
    store.begin(1, 0)
    store.write(torch.arange(9), support)
    store.publish()
    assert store.read(torch.tensor([4, 4, 0]), "cpu") == support[[4, 4, 0]]
    store.close()


def test_a_round_is_whole_or_not_there(store, tmp_path):
    store.begin(1, 0)
    store.write(torch.arange(20), made(20))
    with pytest.raises(SupportMismatchError, match=r"example 20 \(and 2 more\)"):
        store.publish()
    with pytest.raises(SupportMismatchError, match="no support was stored"):
        store.read(torch.arange(2), "cpu")
    assert not list(tmp_path.glob("*.store"))


def test_the_round_before_is_read_until_the_next_is_published(store, tmp_path):
    one, two = made(23, 1), made(23, 2)
    stroke(store, one, 1)
    store.begin(2, 2)
    store.write(torch.arange(23), two)
    assert store.read(torch.arange(23), "cpu") == one
    assert len(list(tmp_path.iterdir())) == 2
    store.publish()
    assert store.read(torch.arange(23), "cpu") == two
    assert [p.name for p in tmp_path.iterdir()] == ["support-2.store"]


def test_what_a_checkpoint_refers_to_stays_until_the_next_is_safe(store, tmp_path):
    def names():
        return sorted(p.name for p in tmp_path.iterdir())

    stroke(store, made(23, 1), 1)
    first = store.reference()
    store.settle()
    stroke(store, made(23, 2), 2)
    assert names() == ["support-1.store", "support-2.store"]
    store.reference()  # a checkpoint is being written
    assert names() == ["support-1.store", "support-2.store"]
    store.settle()
    assert names() == ["support-2.store"]
    stroke(store, made(23, 3), 3)
    store.close()  # killed before the next checkpoint, as it were
    assert names() == ["support-2.store"]
    assert first["round"] == 1


def again(folder, **changes):
    options = {"sites": SITES, "examples": 23, "folder": folder, "origin": Origin("m", "d", 3)}
    return files(**(options | changes))


def test_reopened_it_goes_on_where_it_was(store, tmp_path):
    stroke(store, made(23, 1), 1)
    reference = json.loads(json.dumps(store.reference()))
    store.settle()
    stroke(store, made(23, 2), 2)  # of which no checkpoint came to know
    (tmp_path / "support-2.store.999999999-1.partial").write_bytes(b"of a killed process")
    other = again(tmp_path)
    other.reopen(reference)
    assert other.read(torch.arange(23), "cpu") == made(23, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["support-1.store"]
    stroke(other, made(23, 5), 2)
    assert other.read(torch.arange(23), "cpu") == made(23, 5)
    other.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"origin": Origin("other", "d", 3)}, "of another model"),
        ({"origin": Origin("m", "other", 3)}, "of another data set"),
        ({"origin": Origin("m", "d", 4)}, "seed 3, not 4"),
        ({"sites": SITES[:2]}, "another model or images of another size"),
        ({"examples": 24}, "23 examples, not 24"),
    ],
)
def test_a_file_of_something_else_is_refused(store, tmp_path, changes, message):
    stroke(store, made(23))
    reference = store.reference()
    with pytest.raises(SupportFileError, match=rf"support-1\.store.*{message}"):
        again(tmp_path, **changes).reopen(reference)


def test_a_round_that_the_checkpoint_does_not_mean_is_refused(store, tmp_path):
    stroke(store, made(23, 1))
    reference = store.reference()
    stroke(store, made(23, 2))
    with pytest.raises(SupportFileError, match="not the masks that the checkpoint refers to"):
        again(tmp_path).reopen(reference)
    (tmp_path / "support-1.store").unlink()
    with pytest.raises(SupportFileError, match=r"support-1\.store: there is no such file"):
        again(tmp_path).reopen(reference)
    with pytest.raises(SupportFileError, match="not the name"):
        again(tmp_path).reopen(reference | {"file": "../x/support-1.store"})


def test_another_runs_rounds_are_not_overwritten(store, tmp_path):
    stroke(store, made(23))
    before = (tmp_path / "support-1.store").read_bytes()
    other = again(tmp_path)
    with pytest.raises(StoreError, match="of another run"):
        other.begin(1, 0)
    other.close()
    assert (tmp_path / "support-1.store").read_bytes() == before


def test_every_altered_byte_is_noticed(store, tmp_path):
    """Header, table and rows; one flipped bit at a time, all over the file."""
    stroke(store, made(23))
    path = tmp_path / "support-1.store"
    whole, reference = path.read_bytes(), store.reference()
    start, other = len(whole) - 23 * ROW, again(tmp_path)
    draw = torch.Generator().manual_seed(0)
    some = torch.randint(300, start, (100,), generator=draw).tolist()
    for place in [*range(300), *some, *range(start, len(whole))]:
        altered = bytearray(whole)
        altered[place] ^= 1 << (place % 8)
        path.write_bytes(altered)
        with pytest.raises(SupportFileError, match=r"support-1\.store") as caught:
            other.reopen(reference)
        if place >= start:
            row = (place - start) // ROW
            assert f"block {row}, the masks of rows {row} to {row}" in str(caught.value)


def test_every_truncation_is_noticed(store, tmp_path):
    stroke(store, made(23))
    path = tmp_path / "support-1.store"
    whole = path.read_bytes()
    lengths = [*range(0, 64), 4096, 4097, len(whole) - ROW, len(whole) - 1]
    for raw in [*(whole[:n] for n in lengths), whole + b"\0"]:
        path.write_bytes(raw)
        with pytest.raises(SupportFileError, match=r"support-1\.store"):
            RoundFile.open(path)


def test_damage_done_while_it_is_read_is_noticed_at_the_row(store, tmp_path):
    support = made(23)
    stroke(store, support)
    path = tmp_path / "support-1.store"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 2)  # in the last row
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 16]))
    assert store.read(torch.arange(22), "cpu") == support[:22]
    with pytest.raises(SupportFileError, match=r"support-1\.store: the masks of row 22"):
        store.read(torch.tensor([3, 22]), "cpu")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3 * ROW)
    with pytest.raises(SupportFileError, match="cut short"):
        store.read(torch.tensor([21]), "cpu")
    path.unlink()  # the name is gone, the open file is not
    assert store.read(torch.arange(9), "cpu") == support[:9]


def test_blocks_share_checksums_by_the_thousand():
    """The table against one computed a row at a time, and rows that changed places."""
    crcs = torch.randint(0, 2**32, (3 * BLOCKS + 7,))
    block = Header(SITES, len(crcs), Origin()).block
    assert block == 4
    table = table_of(crcs, block)
    for k in (0, 1, 1000, len(crcs) // block):
        rows = range(k * block, min(len(crcs), (k + 1) * block))
        expected = sum(int(crcs[i]) * (2 * i + 1) for i in rows) % 2**64
        assert int(table[k]) % 2**64 == expected
    swapped = crcs.clone()
    swapped[[4, 5]] = crcs[[5, 4]]
    assert (table_of(swapped, block) != table).nonzero().tolist() == [[1]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
SITE = st.fixed_dictionaries(
    {
        "path": st.just("a") | JSON,
        "call": st.just(0) | JSON,
        "kind": st.just("relu") | JSON,
        "shape": st.lists(st.integers(0, 2**70), max_size=20) | JSON,
        "planes": st.integers(0, 99) | JSON,
    }
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "sites": st.lists(SITE, max_size=4) | JSON,
        "examples": st.integers(-(2**70), 2**70) | JSON,
        "round": st.just(1) | JSON,
        "view": st.just(1) | JSON,
        "seed": st.just(1) | JSON,
        "model": st.just("m") | JSON,
        "data": st.just("d") | JSON,
        "table": st.just(zlib.crc32(bytes(8 * BLOCKS))) | JSON,
    },
)


def dressed(text, length=None):
    """A file with this JSON, whose checksum is right."""
    size = len(text) if length is None else length
    head = struct.pack("<16sIIII", b"twostroke store\n", 1, size, zlib.crc32(text), 0) + text
    return head.ljust(-(-(len(head) + 10) // 4096) * 4096) + bytes(8 * BLOCKS) + bytes(100)


@given(FIELDS.map(lambda f: json.dumps(f).encode()) | st.binary(max_size=50), st.data())
@settings(max_examples=100, deadline=None)
def test_hostile_headers_are_refused_in_words(tmp_path_factory, text, data):
    length = data.draw(st.none() | st.integers(0, 2**32 - 1))
    path = tmp_path_factory.getbasetemp() / "hostile.store"
    path.write_bytes(dressed(text, length))
    with pytest.raises(SupportFileError, match=r"hostile\.store"):
        RoundFile.open(path)


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_refused_in_words(raw):
    for content in (raw, b"twostroke store\n" + raw):
        with pytest.raises(SupportFileError):
            decode(content)


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"examples": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"null", b"7", b"[]"],
)
def test_json_that_is_no_header(tmp_path, text):
    path = tmp_path / "x.store"
    path.write_bytes(dressed(text))
    with pytest.raises(SupportFileError, match="makes no sense"):
        RoundFile.open(path)
