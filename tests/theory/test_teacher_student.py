"""P1 for any depth, and whether students find their teacher."""

import pytest
import torch

from twostroke import hold, record
from twostroke.errors import SettingsError
from twostroke.outcome import Status
from twostroke.theory import (
    chain,
    oriented,
    plain_network,
    recover_weights,
    teacher_student,
    weight_vectors,
)
from twostroke.theory.deep import jacobian

from .networks import NETWORKS, build


@pytest.mark.parametrize("name", NETWORKS)
def test_jacobian_is_that_of_the_held_network(name):
    model, x, support = build(name, seed=1)
    network, weights = chain(model, support, x), weight_vectors(model)

    def image(*weights):
        return network.forward(weights).reshape(-1)

    parts = torch.autograd.functional.jacobian(image, weights)
    torch.testing.assert_close(
        jacobian(network, weights), torch.cat(parts, 1), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("depth", [2, 3])
def test_held_students_find_the_teacher_and_its_signs(depth):
    teacher, start = (plain_network(3, depth, inputs=3, outputs=2, seed=s) for s in (0, 4))
    x = torch.randn(250, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    support = record(teacher, x)
    y = teacher(x).detach()
    network = chain(teacher, support, x)
    found = recover_weights(network, y, weight_vectors(start))
    assert found.status is Status.CONVERGED, found.message
    weights = oriented(network, found.weights)
    torch.testing.assert_close(network.forward(weights), y, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(network.forward(weights, held=False), y, rtol=1e-8, atol=1e-10)


def test_oriented_changes_no_held_output():
    model, x, support = build("conv, fully connected")
    network = chain(model, support, x)
    drawn = [torch.randn(n, dtype=torch.float64) for n in network.sizes]
    torch.testing.assert_close(
        network.forward(oriented(network, drawn)), network.forward(drawn), rtol=1e-10, atol=1e-12
    )


def test_deep_failures_are_named():
    model, x, support = build("4-3-2", batch=60)
    network = chain(model, support, x)
    weights = weight_vectors(model)
    y = torch.randn(60, 2, dtype=torch.float64)
    assert recover_weights(network, y, weights).status is Status.STALLED
    assert recover_weights(network, y, weights, max_steps=2).status is Status.LIMIT
    assert recover_weights(network, network.forward(weights), weights).residuals == (0.0,)


def test_units_never_on_together_leave_weights_unseen():
    """Teacher 1 of depth three: of 400 examples none has a certain pair of units on."""
    found = teacher_student(6, 3, 400, inputs=8, outputs=4, seed=1, starts=1, max_steps=100)
    assert found.unseen == 1
    (run,) = found.runs
    assert run.train < 1e-6 < 1e-3 < run.test_given


def test_of_two_layers_every_start_succeeds_with_the_support_given():
    given, unknown = (
        teacher_student(4, 2, 100, s, inputs=4, outputs=3, starts=2, max_steps=400)
        for s in ("given", "unknown")
    )
    assert given.unseen == 0
    for run in given.runs:
        assert run.status is Status.CONVERGED
        assert run.reached
        assert run.recovered
        assert run.train <= 1e-7
        assert run.test_own <= 1e-5
    assert [run.recovered for run in unknown.runs] == [r.test_own <= 1e-6 for r in unknown.runs]


def test_errors_are_those_of_the_held_network():
    teacher = plain_network(4, 3, inputs=2)
    x = torch.randn(30, 2, dtype=torch.float64)
    support = record(teacher, x)
    with hold(teacher, support):
        held = teacher(x)
    torch.testing.assert_close(
        held, chain(teacher, support, x).forward(weight_vectors(teacher)), rtol=1e-10, atol=1e-12
    )


def test_refusals():
    with pytest.raises(SettingsError, match="'given' or 'unknown'"):
        teacher_student(3, 2, 10, "none")
    with pytest.raises(SettingsError, match="starts"):
        teacher_student(3, 2, 10, starts=0)
    with pytest.raises(SettingsError, match="depth"):
        plain_network(3, 1)
