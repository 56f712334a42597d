"""`twostroke guide`: a file of given supports, from which someone else trains."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

from ..errors import RunFolderError
from ..guidance import Guide
from .lessons import LessonOptions, options_of, prepared
from .progress import RunBars


def guide(
    teacher: str,
    out: Path,
    *,
    images: Path | None = None,
    data: str = "teacher",
    data_root: Path | None = None,
    examples: int | None = None,
    augmentation: str = "none",
    views: int = 1,
    places: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Write what a teacher says of some images to a file, for someone else to train a student from.

    They need the same images, and `twostroke distill --guide FILE`, but not the teacher. The file is as
    confidential as the teacher's weights: a network can be rebuilt from it.

    Args:
        teacher: Folder of a run of `twostroke train`, torchvision:NAME, timm:NAME, or a model.safetensors.
        out: Where to write the guide; a file that is there already is not replaced.
        images: Folder with pictures of any size and depth, without labels; noise draws smooth random ones.
        data: Data set with the images, where no folder is given; teacher is that of the teacher's run.
        data_root: Where named data sets lie or are downloaded to.
        examples: How many images, drawn by the seed; by default all.
        augmentation: Draws the views, as `twostroke train` has it.
        views: How often the teacher looks at each image.
        places: Keep the masks of so many places of each picture, instead of all.
        seed: Of the draw of images.
        device: cpu, cuda, cuda:1; auto takes the GPU where there is one.
    """
    if out.exists():
        raise RunFolderError(f"{out} is there already: choose another --out or remove it")
    if not out.absolute().parent.is_dir():
        raise RunFolderError(
            f"{out.parent}: there is no such folder: make it, or choose another --out"
        )
    what = LessonOptions(
        teacher=teacher,
        images=images,
        data=data,
        data_root=data_root,
        examples=examples,
        augmentation=augmentation,
        views=views,
        places=places,
    )
    what.check()
    console = Console(markup=False)
    lesson = prepared(what, console, seed=seed, device=device)
    assert lesson.teacher.net is not None
    with RunBars(console) as bars:
        made = Guide.record(
            lesson.teacher.net, lesson.images, views=views, places=places, listener=bars
        )
    made.notes |= {
        "about": lesson.teacher.about.to_json(),
        "examples": str(examples or 0),
        "seed": str(seed),
        "augmentation": augmentation,
    }
    made.save(out)
    known = None if lesson.teacher.run is None else options_of(lesson.teacher.run)
    if images is None:
        source = ["--data", known.data if data == "teacher" and known is not None else what.data]
    else:
        source = ["--images", str(images)]
    if data_root is not None:
        source += ["--data-root", str(data_root)]
    command = shlex.join(
        ["twostroke", "distill", "--guide", str(out), *source, "--out", "runs/NAME"]
    )
    console.print(
        f"wrote {out}: {repr(made)[1:-1]}\ntrain a student from it: {command}",
        highlight=False,
        soft_wrap=True,
    )
