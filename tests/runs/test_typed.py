"""State comes back equal, types included, or is refused by name."""

import json
import math
from collections import Counter, OrderedDict

import pytest
import torch
from torch import nn

from twostroke.errors import RunFolderError, SettingsError
from twostroke.runs import load_weights, read_weights, save_weights
from twostroke.runs.typed import pack, unpack


def there_and_back(value, now=None):
    tensors = {}
    told = json.loads(json.dumps(pack(value, tensors, "x")))
    return unpack(told, tensors, now)


def same(a, b):
    """Equal, with equal types, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


VALUES = [
    None,
    True,
    7,
    0.1,
    math.inf,
    math.nan,
    "text",
    b"\x00\xff",
    2 - 3j,
    [1, [2.0, ()], "a"],
    (1, (2, [3])),
    {"a": {1: "one", (2, 3): 4}},
    {"$": "tensor", "of": "a name that is none"},
    OrderedDict(b=1, a=2),
    Counter({6: 1, 10: 2}),
    {1, 2},
    frozenset("ab"),
    torch.Size([2, 3]),
    torch.float16,
    torch.device("cuda", 1),
    torch.randn(2, 3, dtype=torch.bfloat16),
    {"a.b": torch.tensor(1), "a": {"b": torch.tensor([True])}},
    nn.Parameter(torch.ones(2), requires_grad=False),
]


@pytest.mark.parametrize("place", range(len(VALUES)))
def test_it_comes_back_equal(place):
    value = VALUES[place]
    assert same(there_and_back(value), value)


def test_functions_are_those_of_the_object_that_takes_the_state():
    now = {"f": [math.sin], "of": 1}
    assert there_and_back({"f": [math.cos], "of": 2}, now) == {"f": [math.sin], "of": 2}


class Thing:
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [Thing()]}, r"x\.a\.0, which is a .*Thing"),
        ({"a": torch.eye(2).to_sparse()}, r"tensor x\.a .*sparse"),
        ({"a": torch.ones(1, dtype=torch.complex128)}, r"tensor x\.a .*complex128"),
        ({Thing(): 1}, "a key"),
    ],
)
def test_what_cannot_come_back_is_refused_by_its_place(value, message):
    with pytest.raises(SettingsError, match=message):
        pack(value, {}, "x")


@pytest.mark.parametrize(
    "told", [{"$": "rm"}, {"$": "dtype", "of": "load"}, {"$": "tensor"}, {"$": []}]
)
def test_what_was_not_packed_is_refused(told):
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        unpack(told, {})


class Keeps(nn.Module):
    """Adds to its state, and has a version that decides how it is read."""

    _version = 3

    def __init__(self, extra=None):
        super().__init__()
        self.linear, self.extra = nn.Linear(2, 2), extra

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        assert metadata.get("version") == 3
        super()._load_from_state_dict(state, prefix, metadata, *rest)


EXTRA = {"scale": torch.tensor(3.0), 1: (2, "b")}


def test_weights_keep_versions_and_what_modules_add(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, nn.Sequential(Keeps(EXTRA)).state_dict(), {"of": "us"})
    state, header = read_weights(path)
    assert header == {"of": "us"}
    model = nn.Sequential(Keeps())
    load_weights(model, state, path)
    assert same(model[0].extra, EXTRA)
    # a file of another program tells no versions
    load_weights(nn.Sequential(Keeps()), dict(state), path)
    with pytest.raises(RunFolderError, match=r"no 0\.linear\.bias"):
        load_weights(model, {k: v for k, v in state.items() if k != "0.linear.bias"}, path)
