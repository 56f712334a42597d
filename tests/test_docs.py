"""Every Python block in README and docs runs, and every file that they link to is there."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}  # the blocks of a page build on each other
    for block in BLOCK.findall(page.read_text()):
        needs = re.match(r"# needs (\w+)\n", block)
        if needs is not None and find_spec(needs[1]) is None:
            continue
        exec(compile(block, name(page), "exec"), space)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_readme_has_blocks_to_run():
    assert len(BLOCK.findall((ROOT / "README.md").read_text())) >= 2
