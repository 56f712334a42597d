"""A seeded part of the fuzz: benchmarks/fuzz.py goes on for as long as it is told to."""

import itertools

import pytest

from twostroke.errors import SettingsError


def test_altered_files_and_drawn_commands_end_in_words(script):
    fuzz = script("fuzz")
    counts, faults = fuzz.fuzz(iter(range(10)), fuzz.EVERY)
    assert not faults
    assert sum(counts.values()) == 10 * len(fuzz.EVERY)
    assert {name for name, found in counts if found == "refused"} == set(fuzz.EVERY)


def test_what_counts_as_a_fault(script):
    fuzz = script("fuzz")

    def refuses():
        raise SettingsError("epochs is 1 or more, not 0")

    assert fuzz.tried("x", 7, lambda: None) == "read"
    assert fuzz.tried("x", 7, refuses) == "refused"
    found = fuzz.tried("x", 7, lambda: [][1])
    assert found.seed == 7
    assert found.what.startswith("IndexError: list index out of range (test_fuzz.py:")
    with pytest.raises(fuzz.Hang), fuzz.limited(0.05):
        for _ in itertools.repeat(None):  # in Python: a loop within C would not be stopped
            pass
