"""A network from its masks, and the gauge in which networks are compared."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twostroke import record
from twostroke.errors import SettingsError, UnholdableError
from twostroke.outcome import Status
from twostroke.theory import rebuild
from twostroke.theory.gauge import put_rows, rows_of, unit_gauge
from twostroke.theory.layerwise import OUTPUT_RIDGE, by_place, measurements


def teacher(seed=0):
    torch.manual_seed(seed)
    return (
        nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Sequential(nn.Conv2d(3, 4, 2, stride=2, bias=False), nn.ReLU(), nn.Flatten()),
            nn.Linear(16, 5),
            nn.ReLU(),
            nn.Linear(5, 2),
        )
        .double()
        .eval()
    )


def images(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 8, 8, generator=draw, dtype=torch.float64)


def test_the_gauge_changes_neither_outputs_nor_masks():
    model, x = teacher(), images(20)
    scaled = unit_gauge(model)
    torch.testing.assert_close(scaled(x), model(x), rtol=1e-10, atol=1e-12)
    ours, theirs = record(scaled, x), record(model, x)
    assert all(torch.equal(ours[site], theirs[site]) for site in ours.sites)
    hidden = [scaled[0], scaled[3][0], scaled[4]]
    for layer in hidden:
        torch.testing.assert_close(
            rows_of(layer).norm(dim=1), torch.ones(len(layer.weight)).double()
        )
    with torch.no_grad():
        model[4].weight[1] = model[4].bias[1] = 0
    assert (rows_of(unit_gauge(model)[4])[1] == 0).all()


@pytest.mark.parametrize("layer", [nn.Linear(5, 3), nn.Conv2d(2, 3, (1, 2), bias=False)])
def test_rows_are_put_back(layer):
    rows = torch.randn_like(rows_of(layer))
    put_rows(layer, rows)
    assert torch.equal(rows_of(layer), rows)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(3, 4),
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
        nn.Conv2d(3, 4, 3, padding="same", padding_mode="circular", bias=False),
    ],
)
def test_a_layer_is_its_rows_times_what_it_meets(layer):
    layer = layer.double()
    z = torch.randn(5, 3, 6, 7) if isinstance(layer, nn.Conv2d) else torch.randn(5, 3)
    z = z.double()
    got = measurements(layer, z) @ rows_of(layer).mT
    torch.testing.assert_close(got, by_place(layer(z)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("inputs", ["recovered", "teacher"])
def test_a_network_is_rebuilt_from_its_masks(inputs):
    model, x = teacher(), images(1500)
    found = rebuild(model, record(model, x), x, inputs=inputs)
    assert found.status is Status.CONVERGED, found.message
    assert [layer.name for layer in found.layers] == ["0", "3.0", "4"]
    assert found.layers[0].separation.per_weight == 1500 * 64 / 19
    assert all(layer.cosine > 0.99 for layer in found.layers)
    unseen = images(200, seed=1)
    with torch.no_grad():
        gap = (found.model(unseen) - model(unseen)).norm() / model(unseen).norm()
    assert float(gap) < 0.05


def test_with_the_teachers_inputs_layers_do_not_hang_together():
    model, x = teacher(), images(60)
    support = record(model, x)
    found = rebuild(model, support, x, inputs="teacher")
    # layer 3.0 alone, from the inputs that the teacher gives it
    scaled = unit_gauge(model)
    z = scaled[2](scaled[1](scaled[0](x))).detach()
    rest = nn.Sequential(*scaled[3:])
    alone = rebuild(rest, record(rest, z), z, inputs="teacher")
    torch.testing.assert_close(
        found.layers[1].separation.weights, alone.layers[0].separation.weights, rtol=1e-6, atol=1e-8
    )
    other = rebuild(model, support, x).layers[1].separation.weights
    assert not torch.allclose(found.layers[1].separation.weights, other)


def test_nothing_of_the_teachers_weights_goes_into_the_student():
    """Two teachers of other scales have the same masks and outputs, and one student."""
    model, x = teacher(), images(40)
    other = unit_gauge(model)
    one, two = (rebuild(m, record(m, x), x).model for m in (model, other))
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-9)


def test_a_dead_unit_is_named_and_left_at_zero():
    model, x = teacher(), images(100)
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0, -1
    found = rebuild(model, record(model, x), x)
    assert "0: unit 1 is off at every place: not determined" in found.notes
    assert (found.model[0].weight[1] == 0).all()
    assert found.layers[0].cosines.isnan().tolist() == [False, True, False]
    assert found.layers[0].cosine == pytest.approx(float(found.layers[0].cosines[[0, 2]].mean()))


def test_the_last_layer_is_ridge_regression_of_the_outputs():
    model, x = teacher(), images(60)
    found = rebuild(model, record(model, x), x)
    z = F.pad(found.model[:-1](x).detach(), (0, 1), value=1.0)
    ridge = OUTPUT_RIDGE * z.square().sum() / 6
    more = torch.cat(
        [z, ridge.sqrt() * torch.eye(6, dtype=torch.float64)]
    )  # the same, as least squares
    target = F.pad(model(x).detach(), (0, 0, 0, 6))
    rows = torch.linalg.lstsq(more, target, driver="gelsd").solution.mT
    torch.testing.assert_close(rows_of(found.model[-1]), rows, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([nn.Linear(4, 4), nn.BatchNorm1d(4)], r"1 \(BatchNorm1d\).*folded"),
        ([nn.Linear(4, 4), nn.Linear(4, 2)], "0 is not followed by ReLU"),
        ([nn.ReLU()], "no weight layer"),
        ([nn.Conv2d(4, 4, 1, groups=2), nn.ReLU()], "0 is a convolution in groups"),
        ([layer := nn.Linear(4, 4), nn.ReLU(), layer], "twice"),
    ],
)
def test_other_models_are_refused_by_name(layers, words):
    model = nn.Sequential(*layers).double().eval()
    some = teacher()
    with pytest.raises(UnholdableError, match=words):
        rebuild(model, record(some, images(2)), torch.zeros(2, 4).double())


def test_settings_are_refused():
    model, x = teacher(), images(2)
    with pytest.raises(SettingsError, match="'recovered' or 'teacher'"):
        rebuild(model, record(model, x), x, inputs="own")
