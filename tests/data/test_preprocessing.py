"""Preprocessing against hand-checked numbers and loops written out in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from twostroke.data import Whitening, from_tensors, gcn, load, local_contrast, preprocess
from twostroke.errors import DataError, SettingsError, UnknownNameError


def images(count: int = 30, channels: int = 3, side: int = 4, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), generator=draw).byte()


def test_gcn_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]], dtype=torch.float64)  # mean 3: -2 -1 0 3
    expected = torch.tensor([-2.0, -1.0, 0.0, 3.0], dtype=torch.float64) * 55 / 14**0.5
    torch.testing.assert_close(gcn(x).flatten(), expected)


def test_gcn_has_mean_zero_and_the_norm_that_is_asked_for() -> None:
    flat = gcn(images(), norm=7.0).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(30), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.norm(dim=1), torch.full((30,), 7.0))


def test_an_image_of_one_colour_becomes_zero() -> None:
    x = torch.full((2, 3, 5, 5), 199, dtype=torch.uint8)
    assert not gcn(x).any()
    assert not gcn(torch.full((1, 3, 5, 5), 0.1)).any()
    assert not local_contrast(x).any()


def test_zca_by_hand() -> None:
    """Variances 4 and 1 along (1, 1)/√2 and (1, -1)/√2, whitened with bias 1/2."""
    points = torch.tensor([[2.0, 2], [-2, -2], [1, -1], [-1, 1]], dtype=torch.float64)
    white = Whitening.fit(points.view(4, 2, 1, 1), bias=0.5)
    along, across = 4.5**-0.5, 1.5**-0.5
    expected = np.array([[along + across, along - across], [along - across, along + across]]) / 2
    np.testing.assert_allclose(white.matrix.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(white.mean.numpy(), [0, 0], atol=1e-15)
    got = white(points.view(4, 2, 1, 1)).flatten(1)
    np.testing.assert_allclose(got.numpy(), points.numpy() @ expected, rtol=1e-6)


@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_zca_against_the_definition(bias: float) -> None:
    x = gcn(images(200, 2, 3).double())
    white = Whitening.fit(x, bias=bias)
    flat = x.flatten(1).numpy()
    covariance = np.cov(flat.T, bias=True)
    values, vectors = np.linalg.eigh(covariance + bias * np.eye(18))
    root = np.where(values > 1e-9, np.abs(values), np.inf) ** -0.5
    np.testing.assert_allclose(white.matrix, (vectors * root) @ vectors.T, atol=1e-6)
    if bias == 0:
        got = np.cov(white(x).flatten(1).double().numpy().T, bias=True)
        # gcn has taken the mean of each image away: one direction has no variance
        np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(got)), [0, *[1] * 17], atol=1e-4)


@pytest.mark.parametrize("bias", [0.0, 1e-12, 0.1])
def test_zca_is_stable_where_the_rank_is_deficient(bias: float) -> None:
    few = gcn(images(5, 3, 4))  # 5 images, 48 features
    white = Whitening.fit(few, bias=bias)
    assert bool(white.matrix.isfinite().all())
    out = white(few)
    assert bool(out.isfinite().all())
    if bias < 1e-9:  # below what rounding makes of no variance: nothing is blown up
        assert float(out.abs().max()) < 10
        assert float(white(gcn(images(5, 3, 4, seed=1))).abs().max()) < 10
    same = torch.full((3, 1, 2, 2), 4.0)
    assert not Whitening.fit(same, bias=0)(same).any()


def test_local_contrast_by_loops() -> None:
    x = images(2, 2, 9).double()
    weight = np.exp(-(np.arange(-3, 4)[:, None] ** 2 + np.arange(-3, 4)[None] ** 2) / 8)

    def smooth(plane: np.ndarray) -> np.ndarray:
        out = np.zeros_like(plane)
        for i in range(9):
            for j in range(9):
                total = mass = 0.0
                for a in range(-3, 4):
                    for b in range(-3, 4):
                        if 0 <= i + a < 9 and 0 <= j + b < 9:
                            mass += weight[a + 3, b + 3]
                            total += weight[a + 3, b + 3] * plane[i + a, j + b]
                out[i, j] = total / mass
        return out

    for image, got in zip(x.numpy(), local_contrast(x).numpy(), strict=True):
        for plane, result in zip(image, got, strict=True):
            v = plane - smooth(plane)
            s = np.sqrt(smooth(v**2))
            np.testing.assert_allclose(result, v / np.maximum(s, s.mean()), rtol=1e-9)


@pytest.mark.parametrize("name", ["raw", "unit", "gcn", "gcn-zca", "lcn"])
def test_data_is_preprocessed_by_the_training_set_alone(name: str, tmp_path: Path) -> None:
    y = torch.arange(30) % 3
    data = from_tensors(images(), y, images(seed=1), y, name="toy")
    data.train.augmentation = "kept"  # type: ignore[attr-defined]
    done = preprocess(data, name, cache=tmp_path)
    assert done.train.augmentation == "kept"  # type: ignore[attr-defined]
    assert f"preprocessed by {name}" in done.note
    x, labels = done.test.batch(torch.tensor([4, 2]))
    assert labels.tolist() == [1, 2]
    by_hand = {
        "raw": lambda t: t.float(),
        "unit": lambda t: t.float() / 255,
        "gcn": gcn,
        "lcn": lambda t: local_contrast(gcn(t)),
        "gcn-zca": lambda t: Whitening.fit(gcn(images()))(gcn(t)),
    }[name]
    torch.testing.assert_close(x, by_hand(images(seed=1)[[4, 2]]))
    assert torch.equal(x[1], done.test.batch(torch.tensor([2]))[0][0])  # whoever is beside it


def test_the_whitening_matrix_is_kept_and_a_damaged_one_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = torch.arange(30) % 3
    data = from_tensors(images(), y, images(seed=1), y)
    first = preprocess(data, "gcn-zca", cache=tmp_path)
    (file,) = tmp_path.iterdir()
    fits = []
    fit = Whitening.fit

    def spied(x: torch.Tensor, **options: float) -> Whitening:
        fits.append(options)
        return fit(x, **options)

    monkeypatch.setattr(Whitening, "fit", spied)
    again = preprocess(data, "gcn-zca", cache=tmp_path)
    assert fits == []
    index = torch.arange(30)
    assert torch.equal(first.test.batch(index)[0], again.test.batch(index)[0])
    preprocess(data, "gcn-zca:0.2", cache=tmp_path)
    assert fits == [{"bias": 0.2}]
    file.write_bytes(file.read_bytes()[:100])
    third = preprocess(data, "gcn-zca", cache=tmp_path)
    assert fits[1:] == [{"bias": 0.1}]
    assert torch.equal(first.test.batch(index)[0], third.test.batch(index)[0])


def test_load_preprocesses(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    x = images(20).numpy()
    np.savez(file, x_train=x, y_train=np.arange(20), x_test=x, y_test=np.arange(20))
    data = load(f"npz:{file}", preprocess="gcn-zca", root=tmp_path, augmentation="shift")
    assert data.train.augmentation is not None  # type: ignore[attr-defined]
    assert list((tmp_path / "preprocessed").iterdir())
    with pytest.raises(UnknownNameError, match=r"'zca', did you mean 'gcn-zca'.*none, raw, unit"):
        load(f"npz:{file}", preprocess="zca")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gcn-zca:", "as in gcn-zca:0.01, not ''"),
        ("gcn-zca:-1", "0 or more.*'-1'"),
        ("gcn-zca:nan", "not 'nan'"),
        ("gcn:0.1", "'gcn' takes no number"),
    ],
)
def test_a_filter_bias_that_is_none_is_refused_before_data_are_read(
    name: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load("npz:nowhere.npz", preprocess=name)


def test_what_is_refused() -> None:
    with pytest.raises(SettingsError, match="filter bias"):
        Whitening.fit(torch.rand(4, 1, 2, 2), bias=-1)
    with pytest.raises(DataError, match="two images"):
        Whitening.fit(torch.rand(1, 1, 2, 2))
    with pytest.raises(SettingsError, match="size must be odd"):
        local_contrast(torch.rand(4, 1, 2, 2), size=4)
