"""Every Python block in README and docs runs, and every file that they link to is there."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image

import twostroke as ts
from twostroke.cli import main
from twostroke.runs import About

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
USE = ROOT / "docs" / "use.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [p for p in PAGES if p != USE], ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}  # the blocks of a page build on each other
    for block in BLOCK.findall(page.read_text()):
        needs = re.match(r"# needs (\w+)\n", block)
        if needs is not None and find_spec(needs[1]) is None:
            continue
        exec(compile(block, name(page), "exec"), space)


def test_the_page_on_use_runs_with_its_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pixels = torch.randint(0, 256, (4, 20, 30, 3), dtype=torch.uint8).numpy()
    for k, file in enumerate(f"{part}/{c}" for part in ("train", "val") for c in ("cat", "dog")):
        place = tmp_path / "pictures" / file
        place.mkdir(parents=True)
        Image.fromarray(pixels[k]).save(place / "a.png")
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels[0]).save(tmp_path / "photos" / "one.png")
    data = ts.data.load("folder:pictures")
    run = ts.RunFolder.create("runs/a", {"data": f"folder:{tmp_path / 'pictures'}"})
    run.save_model(
        ts.models.create_model("allcnn-mini", classes=2), about=About.of("allcnn-mini", data)
    )
    space: dict[str, object] = {}
    for kind, block in TYPED.findall(USE.read_text()):
        if kind == "python":
            exec(compile(block, "use.md", "exec"), space)
            continue
        for line in block.splitlines():
            with pytest.raises(SystemExit) as stop:
                main(shlex.split(line)[1:])
            assert not stop.value.code, line
    assert "cat" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_readme_has_blocks_to_run():
    assert len(BLOCK.findall((ROOT / "README.md").read_text())) >= 2
