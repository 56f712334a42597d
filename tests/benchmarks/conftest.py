"""The benchmarks are scripts, which import their neighbours by bare names."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a script by its name, as running it would."""
    for folder in (SCRIPTS / "guidance", SCRIPTS):
        monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module
    for path in SCRIPTS.rglob("*.py"):
        sys.modules.pop(path.stem, None)
