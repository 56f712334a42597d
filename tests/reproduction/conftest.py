"""Every task with a net that takes seconds."""

from dataclasses import replace

import pytest

from twostroke.reproduction import tasks


@pytest.fixture
def small_nets(monkeypatch):
    """Every task with a net that takes seconds, and few examples; optimiser and schedule stay."""
    for name, task in tasks.TASKS.items():
        monkeypatch.setitem(
            tasks.TASKS, name, replace(task, model="allcnn-mini", smoke=(60, 40), preprocess="none")
        )
    monkeypatch.setattr(tasks, "SMOKE_EPOCHS", 2)
