"""What the documentation site has beside the pages of this folder; `mkdocs.yml` names this file as a hook.

Results of benchmarks and the changelog lie outside of this folder, and pages link to them where they lie. Here
they become pages of the site, and the links follow. Reference pages are made of each room's `__all__`, and the
first of them of `_face.py`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]
FIGURES = "benchmarks/results"
ROOMS = {
    "support": "Sites, record, hold",
    "support.activations": "Kinds of activation",
    "guidance": "Given supports",
    "guidance.students": "Students",
    "alternation": "Alternation",
    "training": "Training",
    "data": "Data",
    "models": "Models",
    "store": "Stores of masks",
    "runs": "Runs",
    "solvers": "Solvers",
    "theory": "Theory",
    "sparsity": "Dense-sparse-dense",
    "study": "Study",
    "study.tables": "Tables of a study",
    "study.pictures": "Pictures of a study",
    "report": "Reports",
    "reproduction": "Reproduction",
    "processes": "Processes",
    "outcome": "Status and result",
    "errors": "Errors",
}
FIELD = re.compile(r"^([a-z_]+(?:, [a-z_]+)*): ", re.MULTILINE)
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")


class Fields(griffe.Extension):
    """What is said of fields line by line, in a docstring or in comments beside them, becomes a list."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Rewrite one docstring. Of a named tuple or an enumeration all fields are listed."""
        if cls.docstring is None:
            return
        paragraphs = cls.docstring.value.split("\n\n")
        lists = [FIELD.sub(r"- `\1`: ", p) if FIELD.match(p) else p for p in paragraphs]
        bases = {str(base) for base in cls.bases}
        fields = {f.name: f for f in cls.attributes.values() if not (f.docstring or f.is_private)}
        said = {name: field.source.partition("  # ")[2] for name, field in fields.items()}
        if "StrEnum" in bases:
            said = {name: f"`{field.value}`" for name, field in fields.items() if field.value}
        elif "NamedTuple" in bases or any(said.values()):
            typed = {name: field.annotation for name, field in fields.items() if field.annotation}
            said = {name: said[name] or f"`{type_}`" for name, type_ in typed.items()}
        lists.append("\n".join(f"- `{name}`: {text}" for name, text in said.items() if text))
        cls.docstring.value = "\n\n".join(lists)


def names_of(room: str) -> list[str]:
    """Public names of a room: its `__all__`, or the classes and functions of a file."""
    path = ROOT / "src/twostroke" / room.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(file.read_text()).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [n for n in ast.literal_eval(node.value) if f"{room}.{n}" not in ROOMS]
    public = (n.name for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef))
    return [name for name in public if not name.startswith("_")]


def face() -> list[str]:
    """A line for each name at the top of the package, which leads to where it is told of."""
    lines = {}
    for node in ast.parse((ROOT / "src/twostroke/_face.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            for name in (alias.name for alias in node.names):
                place = f"{node.module}.md#twostroke.{node.module}.{name}"
                lines[name] = f"[`{name}`]({place if node.module else f'{name}.md'})"
    return [lines[name] for name in sorted(lines)]


def reference(room: str) -> str:
    """One reference page."""
    title = ROOMS[room]
    parts = [f"# {title}\n\n`twostroke.{room}`\n"]
    parts += [f"::: twostroke.{room}.{name}\n" for name in names_of(room)]
    return "\n".join(parts)


def on_config(config: Any) -> Any:
    """A line of the navigation for each room."""
    rooms = [{title: f"reference/{room}.md"} for room, title in ROOMS.items()]
    for entry in config.nav:
        if "Reference" in entry:
            entry["Reference"] = ["reference/index.md", *rooms]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add results, the changelog and the reference."""
    from mkdocs.structure.files import File

    for path in sorted((ROOT / FIGURES).rglob("*")):
        if path.is_file():
            to = f"figures/{path.relative_to(ROOT / FIGURES).as_posix()}"
            files.append(File.generated(config, to, abs_src_path=str(path)))
    files.append(File.generated(config, "CHANGELOG.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    index = "# Reference\n\nAt the top of the package, `import twostroke as ts`:\n\n"
    index += f"{', '.join(face())}\n\nAll that is public, room by room:\n"
    for room, title in ROOMS.items():
        names = (f"[`{n}`]({room}.md#twostroke.{room}.{n})" for n in names_of(room))
        index += f"\n**[{title}]({room}.md)**, `twostroke.{room}`<br>\n{', '.join(names)}\n"
    files.append(File.generated(config, "reference/index.md", content=index))
    for room in ROOMS:
        files.append(File.generated(config, f"reference/{room}.md", content=reference(room)))
    return files


def on_page_markdown(text: str, page: Any, config: Any, files: Any) -> str:
    """Links to what lies outside of this folder lead to its page here."""
    source = page.file.src_uri
    if source.startswith("figures/"):  # as it lies in the checkout
        source = f"../{FIGURES}/{source.removeprefix('figures/')}"
    elif source == "CHANGELOG.md":
        source = "../CHANGELOG.md"
    elif source == "README.md":
        source = "../README.md"

    def follow(match: re.Match[str]) -> str:
        target = normpath(f"{Path(source).parent.as_posix()}/{match[2]}")
        if target.startswith(f"../{FIGURES}/"):
            target = "figures/" + target.removeprefix(f"../{FIGURES}/")
        elif target == "../CHANGELOG.md":
            target = "CHANGELOG.md"
        elif target.startswith("../docs/"):
            target = target.removeprefix("../docs/")
        elif target == "../README.md":
            target = "index.md"
        return match[1] + relpath(target, Path(page.file.src_uri).parent.as_posix() or ".")

    return LINK.sub(follow, text)
