"""Numbers on the pages are those of the results that they link to; a wrong one is caught."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = "[figures](benchmarks/results/made-up/README.md)"


@pytest.fixture
def untraced(script, tmp_path):
    """Numbers that are wrong in a text, beside a folder of results with 1.234, 5,678.9 and 0.871."""
    folder = tmp_path / "benchmarks" / "results" / "made-up"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("A step takes 1.234 times as long, or 5,678.9 ms.")
    (folder / "figures.json").write_text('{"runs": [{"accuracy": -0.871, "note": "0.5"}, true]}')

    def check(text):
        page = tmp_path / "page.md"
        page.write_text(text)
        return [line.split()[1] for line in script("trace").untraced(page)]

    return check


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_numbers_of_a_page_are_those_of_its_results(script, page):
    assert script("trace").untraced(page) == []


@pytest.mark.parametrize("number", ["1.234", "1.23", "1.2", "5,678.9", "0.871", "87.1", "0.87"])
def test_a_number_of_the_results_is_found_rounded_and_in_percent(untraced, number):
    assert untraced(f"It is {number} ({LINK}).") == []


@pytest.mark.parametrize("number", ["1.235", "1.24", "1.3", "5,678.8", "0.872", "87.2", "0.5"])
def test_a_wrong_number_is_named(untraced, number):
    assert untraced(f"It is {number} ({LINK}).") == [number]


@pytest.mark.parametrize(
    "text",
    [
        f"Measured ({LINK}):\n\n| a | b |\n|---|---|\n| 1.2 | 1.3 |",
        f"# A\n\nMeasured ({LINK}).\n\nAlso 1.3.",
        f"| a | b |\n|---|---|\n| 1.2 | {LINK} |\n| 1.3 | {LINK} |",
        f"- One: 1.2 {LINK}\n- Two: 1.3 {LINK}",
    ],
    ids=["table", "section", "rows", "points"],
)
def test_links_reach_tables_sections_rows_and_points(untraced, text):
    assert untraced(text) == ["1.3"]


@pytest.mark.parametrize(
    "text",
    [
        "It is 1.3.",
        f"{LINK}\n\n# Another section\n\nIt is 1.3.",
        f"# Of §3.2\n\nWith `lr=1.3` (§1.3, {LINK}), Python 1.3, torch 1.3.1.\n\n```\n1.3\n```",
        f"{LINK}. Code: tag `levers`.\n\nIt is 1.3.",
    ],
    ids=["no link", "another section", "settings", "of another version"],
)
def test_what_has_no_link_and_settings_are_left_out(untraced, text):
    assert untraced(text) == []
