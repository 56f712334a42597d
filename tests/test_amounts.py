import pytest

from twostroke._amounts import duration, size


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (999_600, "1 MB"), (4.2e15, "4,200 TB")],
)
def test_bytes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((2.5e-6, "2.5 µs"), (0.0123, "12.3 ms"), (1, "1 s"), (89, "89 s"), (90, "2 min")),
        *((5399, "90 min"), (5400, "1.5 h")),
    ],
)
def test_seconds(seconds, text):
    assert duration(seconds) == text
