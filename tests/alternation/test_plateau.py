import pytest

from twostroke.alternation import Plateau
from twostroke.errors import SettingsError


@pytest.mark.parametrize(
    ("losses", "reached"),
    [
        ([], False),
        ([1.0, 1.0], False),
        ([1.0, 1.0, 1.0], True),
        ([1.0, 0.999, 0.998], True),  # falls by less than a hundredth
        ([1.0, 0.999, 0.98], False),
        ([1.0, 0.5, 0.4, 0.41, 0.42], True),
        ([1.0, 0.5, 0.4, 0.41, 0.3], False),
    ],
)
def test_plateau(losses, reached):
    assert Plateau(patience=2, fall=0.01).reached(losses) is reached


def test_plateau_is_checked():
    with pytest.raises(SettingsError, match="patience"):
        Plateau(patience=0)
    with pytest.raises(SettingsError, match="fall"):
        Plateau(fall=1.0)
