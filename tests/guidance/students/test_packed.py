"""Files of weights of a few bits."""

import json

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from tests.toy import toy_net
from twostroke.errors import RunFolderError, SettingsError
from twostroke.guidance.students import finish, load_packed, prune, quantise, save_packed
from twostroke.models import create_model
from twostroke.runs import read_tensors, save_tensors


@settings(deadline=None, max_examples=25)
@given(
    bits=st.sampled_from([1, 2, 4]), norm=st.booleans(), ends=st.booleans(), seed=st.integers(0, 9)
)
def test_read_back_bit_for_bit(tmp_path_factory, bits, norm, ends, seed):
    path = tmp_path_factory.mktemp("packed") / "w.safetensors"
    student = quantise(toy_net(seed, norm=norm), bits, spare_ends=ends)
    save_packed(path, student)
    plain = load_packed(path, toy_net(seed + 1, norm=norm))
    for name, value in finish(student).state_dict().items():
        assert torch.equal(plain.state_dict()[name], value), name


def test_half_and_double_precision_are_kept(tmp_path):
    for kind in (torch.bfloat16, torch.float64):
        student = quantise(toy_net().to(kind), 4)
        save_packed(tmp_path / "w", student)
        plain = load_packed(tmp_path / "w", toy_net(1).to(kind))
        assert torch.equal(plain[4].weight, finish(student)[4].weight)


def test_a_single_layer(tmp_path):
    student = quantise(nn.Linear(5, 3), 2, spare_ends=False)
    save_packed(tmp_path / "w", student)
    assert torch.equal(load_packed(tmp_path / "w", nn.Linear(5, 3)).weight, student.weight)


@pytest.mark.parametrize(("bits", "times"), [(1, 29), (2, 15), (4, 7.8)])
def test_the_file_is_as_small_as_it_says(tmp_path, bits, times):
    student = quantise(create_model("allcnn-mini"), bits)
    save_packed(tmp_path / "w", student)
    tensors, _ = read_tensors(tmp_path / "w")
    small = sum(t.nbytes for name, t in tensors.items() if "weight." in name)
    layers = [name.removesuffix(".codes") for name in tensors if name.endswith(".codes")]
    assert len(layers) == 4
    large = sum(finish(student).state_dict()[name].nbytes for name in layers)
    assert large / small > times
    rest = sum(t.nbytes for name, t in tensors.items() if "weight." not in name)
    assert (tmp_path / "w").stat().st_size < small + rest + 6000  # the header


def test_a_pruned_network_is_small_too(tmp_path):
    model = create_model("allcnn-mini")
    student, _ = prune(model, 0.9)
    save_packed(tmp_path / "w", student)
    again = load_packed(tmp_path / "w", create_model("allcnn-mini"))
    for name, value in student.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert (tmp_path / "w").stat().st_size < 0.17 * 4 * sum(p.numel() for p in model.parameters())


def test_another_parametrisation_is_refused(tmp_path):
    model = toy_net()
    nn.utils.parametrizations.weight_norm(model[4])
    with pytest.raises(SettingsError, match=r"4: its weight has a parametrisation"):
        save_packed(tmp_path / "w", model)


def test_files_that_are_something_else(tmp_path):
    path = tmp_path / "w"
    with pytest.raises(RunFolderError, match="no such file"):
        load_packed(path, toy_net())
    path.write_bytes(b"no tensors")
    with pytest.raises(RunFolderError, match="not a file of this program"):
        load_packed(path, toy_net())
    save_tensors(path, {"a": torch.zeros(2)}, {})
    with pytest.raises(RunFolderError, match="save_packed did not write it"):
        load_packed(path, toy_net())


def test_a_file_of_another_model(tmp_path):
    save_packed(tmp_path / "w", quantise(toy_net(norm=True), 1))
    with pytest.raises(RunFolderError, match="weights of another model"):
        load_packed(tmp_path / "w", toy_net())


@pytest.mark.parametrize("place", ["header", "codes", "end"])
def test_a_damaged_file(tmp_path, place):
    path = tmp_path / "w"
    save_packed(path, quantise(toy_net(), 1))
    data = bytearray(path.read_bytes())
    at = {"header": data.index(b"packed"), "codes": len(data) // 2, "end": len(data) - 1}[place]
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunFolderError, match="damaged"):
        load_packed(path, toy_net())


@pytest.mark.parametrize(
    "about",
    [
        {"version": 2, "packed": {}},
        {"packed": {}},
        {"version": 1, "packed": {"4.weight": {"bits": 3, "shape": [8, 6, 3, 3]}}},
        {"version": 1, "packed": {"4.weight": {"bits": 1, "shape": [8, 6, 3, 30]}}},
        {"version": 1, "packed": {"4.weight": {"bits": 0, "shape": [8, 6, 3, 3]}}},
        {"version": 1, "packed": {"4.weight": {"bits": 1}}},
        {"version": 1, "packed": {"9.weight": {"bits": 1, "shape": [1]}}},
        {"version": 1, "packed": ["4.weight"]},
        [],
    ],
    ids=str,
)
def test_a_header_that_does_not_fit(tmp_path, about):
    path = tmp_path / "w"
    save_packed(path, quantise(toy_net(), 1))
    tensors, metadata = read_tensors(path)
    save_tensors(path, tensors, metadata | {"twostroke-weights": json.dumps(about)})
    with pytest.raises(RunFolderError, match=r"header does not fit|this version of twostroke"):
        load_packed(path, toy_net())
