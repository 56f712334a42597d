"""Values that are written as text come back as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twostroke.alternation import InstanceWise, Plateau
from twostroke.cli import spelling
from twostroke.errors import SettingsError
from twostroke.support import BatchEnergy, Energy, MajorityVote, PositiveThreshold, Rule

share = st.floats(0, 1)
number = st.floats(allow_nan=False, allow_infinity=False)
WARMUP = int | Plateau
RULE = Rule | None

rules = st.one_of(
    st.builds(PositiveThreshold, beta=number),
    st.builds(PositiveThreshold, density=share),
    st.builds(PositiveThreshold, keep=share),
    *(st.builds(kind, price=number) for kind in (Energy, BatchEnergy)),
    *(st.builds(kind, density=share) for kind in (Energy, BatchEnergy)),
    st.builds(MajorityVote, beta=number),
)


def there_and_back(value: Any, wanted: Any) -> Any:
    return spelling.read(str(spelling.written(value)), wanted)


@given(st.one_of(st.integers(0), st.builds(Plateau, st.integers(1), st.floats(0, 0.999))))
def test_lengths_of_a_warmup(value):
    assert there_and_back(value, WARMUP) == value


@given(rules)
def test_rules(rule):
    found = there_and_back(rule, RULE)
    assert type(found) is type(rule)
    assert vars(found) == vars(rule)  # rules compare by identity


def test_some_as_they_are_typed():
    assert spelling.read("plateau", WARMUP) == Plateau()
    assert spelling.read("plateau:patience=3", WARMUP) == Plateau(patience=3)
    assert spelling.read("plateau:patience=3,fall=0.1", WARMUP) == Plateau(3, 0.1)
    assert spelling.read("none", RULE) is None
    assert spelling.read("majority-vote", RULE).beta == 0
    assert spelling.read("muon", str | Callable[[int], int]) == "muon"
    assert spelling.written(Energy(density=0.5)) == "energy:density=0.5"
    for value in (3, 0.5, "sgd", None, True):
        assert spelling.written(value) is value


@pytest.mark.parametrize(
    ("text", "wanted", "message"),
    [
        ("soon", WARMUP, "no value 'soon': there are plateau, a number"),
        ("-1", WARMUP, "no value '-1'"),
        ("none", WARMUP, "no value 'none'"),
        ("platau", WARMUP, "did you mean 'plateau'"),
        ("energy:density=0.5", WARMUP, "no value 'energy"),
        ("plateau:patienc=3", WARMUP, "no setting of plateau 'patienc', did you mean 'patience'"),
        ("plateau:patience=0", WARMUP, "a plateau needs a whole patience >= 1"),
        ("plateau:patience", WARMUP, "write patience=NUMBER"),
        ("plateau", RULE, "no value 'plateau'"),
        ("energie", RULE, "did you mean 'energy'"),
        ("energy", RULE, "give either price or density"),
        ("energy:density=2", RULE, "between 0 and 1"),
        ("energy:density=x", RULE, "energy:density=x: write density=NUMBER, not 'density=x'"),
        ("majority-vote:total=1", RULE, "no setting of majority-vote 'total'"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_can(text, wanted, message):
    with pytest.raises(SettingsError) as error:
        spelling.read(text, wanted)
    assert message in str(error.value)


def test_which_types_are_spelled():
    kinds = {name: f.type for name, f in InstanceWise.__dataclass_fields__.items()}
    assert kinds["warmup"] == "int | Plateau"  # what the cases here are of
    for wanted in (WARMUP, Plateau | None, RULE, str | Callable[[int], int], Callable[[int], int]):
        assert spelling.is_spelled(wanted)
    for wanted in (int, str, float | None, Path | None, tuple[int, int], bool):
        assert not spelling.is_spelled(wanted)


def test_what_help_says_of_them():
    assert spelling.metavar(WARMUP) == "INT|plateau[:patience=N]"
    assert spelling.metavar(Plateau | None) == "plateau[:patience=N]|none"
    assert spelling.metavar(RULE).startswith("{positive-threshold,energy,")
