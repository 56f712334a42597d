"""Commands write a run's page at the end, which takes a second: only where a test looks at it."""

import pytest

import twostroke.cli.running


@pytest.fixture(autouse=True)
def _pages_where_they_are_looked_at(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "pages" not in request.fixturenames:
        monkeypatch.setattr(twostroke.cli.running, "write_report", lambda run: None)


@pytest.fixture
def pages() -> None:
    """Pages are made in this test."""
