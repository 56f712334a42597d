"""Experiments of theory, in small."""

import json
import math

import pytest

from twostroke.reproduction.theory import Findings, Scale, isometry, rebuilding, recovery
from twostroke.theory import teacher_student


def test_only_many_gaussian_rows_pass(tmp_path):
    told = []
    found = isometry(1, told.append)
    assert len(told) == 9
    assert found.write(tmp_path, "the command", 1.26) == ["rip.md", "rip.json", "spectra.png"]
    figures = json.loads((tmp_path / "rip.json").read_text())
    assert figures["about"]["seconds"] == 1.3
    assert 0 < figures["digits_test_error"][0] < 0.4
    holds = {row[0]: row[-1] for row in found.sheets[0].rows}
    assert [name for name, count in holds.items() if count == "1 of 1"] == ["Gaussian, m = 80000"]
    assert "| teacher 4-3-2, paths |" in (tmp_path / "rip.md").read_text()


def test_recovery_counts_what_its_figures_say(tmp_path, monkeypatch):
    monkeypatch.setattr(rebuilding, "STEPS", 40)
    monkeypatch.setattr(rebuilding, "DESCENT", 100)
    told = []
    found = recovery(Scale((3,), (2, 40), 1, 2, ((2, 60),), 40), 2, told.append)
    found.write(tmp_path, "the command", 1.0)
    figures = json.loads((tmp_path / "recover.json").read_text())
    rebuilt = figures["rebuilt"]
    assert [(p["data"], p["images"], p["inputs"]) for p in rebuilt] == [
        (data, images, inputs)
        for data in ("digits", "noise")
        for images, inputs in (
            *((n, by) for n in (2, 40) for by in ("recovered", "teacher")),
            (40, "descent"),
        )
    ]
    layers, guided = rebuilt[-3], rebuilt[-1]  # of 40 noise images
    assert guided["per_weight"] == layers["per_weight"]
    assert guided["undetermined"] == layers["undetermined"]
    assert guided["cosines"][0] > 0.9  # a fresh network's are about zero
    assert rebuilt[2]["per_weight"] == [40 * 196 / 10, 40 * 49 / 28, 40 * 16 / 28]
    few, many = (
        next(p for p in rebuilt if p["images"] == n and p["data"] == "noise") for n in (2, 40)
    )
    assert many["angles"][0] < 0.5 < few["angles"][0]
    assert many["cosines"][0] == pytest.approx(math.cos(math.radians(many["angles"][0])), abs=1e-4)
    (row,) = [r for r in found.sheets[0].rows if (r[0], r[2]) == ("noise", "40")]
    assert row[6] == f"{100 * many['error']:.1f}"
    assert row[7] == f"{100 * guided['error']:.1f}"
    assert len(told) == 4 + 2 + 4
    students = figures["students"]
    assert [(s["support"], s["teacher"]) for s in students] == [
        ("given", 0),
        ("given", 1),
        ("unknown", 0),
        ("unknown", 1),
    ]
    (alone,) = teacher_student(
        6, 2, 60, "given", inputs=8, outputs=4, starts=1, seed=1, max_steps=40
    ).runs
    assert students[1]["runs"][0]["train"] == pytest.approx(alone.train, rel=1e-3)
    assert students[1]["runs"][0]["status"] == alone.status
    fits = [
        sum(s["runs"][0]["reached"] for s in students if s["support"] == support)
        for support in ("given", "unknown")
    ]
    (row,) = found.sheets[-1].rows
    assert [int(row[3]), int(row[6])] == fits


def test_undefined_figures_are_null(tmp_path):
    figures = {"a": [1.0, math.nan], "b": {"c": math.inf}}
    Findings("x", [], ["a note"], {}, figures).write(tmp_path, "the command", 1.0)
    written = json.loads((tmp_path / "x.json").read_text())
    assert (written["a"], written["b"]) == ([1.0, None], {"c": None})
    assert "a note" in (tmp_path / "x.md").read_text()
