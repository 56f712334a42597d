"""Every Python block in README and docs runs, and every file that they link to is there."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEAVY = re.compile(r"^from (transformers) import", re.MULTILINE)  # no part of the extra `test`
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}  # the blocks of a page build on each other
    missing = set()
    for block in BLOCK.findall(page.read_text()):
        needed = {package for package in HEAVY.findall(block) if find_spec(package) is None}
        if not needed:
            exec(compile(block, name(page), "exec"), space)
        missing |= needed
    if missing:
        pytest.skip(f"all ran, but what needs {', '.join(missing)}, which is not installed")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_readme_has_blocks_to_run():
    assert len(BLOCK.findall((ROOT / "README.md").read_text())) >= 2
