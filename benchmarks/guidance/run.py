"""Students of one teacher, by arm: labels, distillation, hints, activation boundaries, guidance.

    python benchmarks/guidance/run.py --data npz:cifar10.npz --out results/guidance --problems 1000 200

All arms share one loop: optimiser (Muon), learning rate by one cycle, batches of 100, steps, seeds, first
weights and connectors. Each problem (`PROBLEMS`) says how many images a student sees, in how many steps, and
how wide it is. Weight and learning rate of each arm are chosen with one seed on 3,000 images of the training
set that no student sees: the least share of answers other than the teacher's, so that no label and no test
image takes part. Then come the seeds (`--seeds`), and errors on the test set.

Beyond those, problems say how little is enough: fewer images, images of something else (`--other`) or of
noise, masks of a few places of each picture, several augmented views; and what else can be taught: weights of
1 bit, 90 % of them pruned, another architecture (`--student`).

Every cell (problem, arm, choice, seed) is one JSON file, so that an interrupted benchmark goes on where it
stopped. The teacher is trained first, with labels on the whole training set, and kept in the folder;
`--teacher FILE` takes another. Students start from seeds that the teacher did not start from.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from arms import ARMS, Arm, Step
from safetensors.torch import load_file, save_file
from torch import nn

from twostroke import data as datasets
from twostroke.guidance import Guide, Pairs, pair
from twostroke.guidance.students import narrow, prune, quantise
from twostroke.models import MODELS, create_model
from twostroke.solvers import Muon
from twostroke.sparsity.layers import apply_masks

BATCH, WARM, DECAY, VALIDATION = 100, 0.25, 0.3, 3000
_FEW = (3.0, 10.0)


@dataclass(frozen=True)
class Problem:
    """So many images in so many steps, for a student so wide; or the teacher, pruned or of few bits."""

    examples: int
    steps: int
    width: float = 1.0
    bits: int = 32
    pruned: float = 0.0
    images: str = "own"  # or "other", "noise", "smooth"
    places: int | None = None
    views: int = 1
    other_net: bool = False  # the architecture that --student names
    lrs: tuple[float, ...] = (0.05, 0.1)
    weights: tuple[float, ...] | None = None  # instead of an arm's


PROBLEMS = {
    "1000": Problem(1000, 600),
    "200": Problem(200, 400),
    "half-1000": Problem(1000, 400, 0.5),
    "half-10000": Problem(10000, 400, 0.5),
    "bits-1": Problem(1000, 200, bits=1, lrs=(0.002, 0.005), weights=(3.0, 10.0)),
    "bits-1-views": Problem(1000, 2000, bits=1, views=16, lrs=(0.001, 0.002), weights=_FEW),
    "pruned-0.9": Problem(1000, 600, pruned=0.9, lrs=(0.002, 0.005, 0.02), weights=_FEW),
    "pruned-0.9-views": Problem(1000, 2000, pruned=0.9, views=16, lrs=(0.002, 0.005), weights=_FEW),
    "half-1000-views": Problem(1000, 2000, 0.5, views=16),
    "student-1000": Problem(1000, 600, other_net=True),
    **{f"{n}": Problem(n, 400) for n in (20, 50, 100)},
    **{f"{kind}-1000": Problem(1000, 600, images=kind) for kind in ("other", "noise", "smooth")},
    **{f"places-{n}": Problem(1000, 600, places=n) for n in (1, 4, 16, 64)},
    **{f"views-{n}": Problem(200, 600, views=n) for n in (1, 4, 16)},
}


def train(
    nets, term, count: int, steps: int, lr: float, seed: int, *, optimizer=None, after=None
) -> float:
    """The one loop: `term(indices, progress)` is descended on, by Muon where nothing is said; gives seconds.

    `after()` follows each step.
    """
    parameters = [p for net in nets for p in net.parameters()]
    optimizer = optimizer or Muon(parameters, lr, weight_decay=DECAY)
    draw = torch.Generator().manual_seed(seed)
    order: list[torch.Tensor] = []
    start = time.perf_counter()
    for step in range(steps):
        if not order:
            order = list(torch.randperm(count, generator=draw).split(min(BATCH, count)))
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = lr * min(progress / WARM, (1 - progress) / (1 - WARM))
        optimizer.zero_grad()
        term(order.pop(), progress).backward()
        optimizer.step()
        if after is not None:
            after()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def answers(net: nn.Module, source, indices: torch.Tensor) -> torch.Tensor:
    net.eval()
    return torch.cat([net(source.batch(part)[0]).argmax(1).cpu() for part in indices.split(500)])


class Bench:
    def __init__(self, options) -> None:
        self.options = options
        self.data = on_device(datasets.load(options.data), options.device)
        options.out.mkdir(parents=True, exist_ok=True)
        self.teacher = self.make_teacher(options.teacher or options.out / "teacher.safetensors")
        total = len(self.data.train)
        # drawn once: the last ones are for choices, students see the first
        self.drawn = torch.randperm(total, generator=torch.Generator().manual_seed(0))
        self.validation = self.drawn[-options.validation :]
        self.goal = answers(self.teacher, self.data.train, self.validation)
        test = torch.arange(len(self.data.test))
        parts = test.split(1000)
        self.labels = torch.cat([self.data.test.batch(part)[1].cpu() for part in parts])
        self.teacher_error = self.error(self.teacher)

    def net(self, width: float = 1.0) -> nn.Module:
        channels, classes = self.data.train.shape[0], len(self.data.classes)
        more = {} if width == 1 else {"width": width}
        net = create_model(self.options.model, in_channels=channels, classes=classes, **more)
        return net.to(self.options.device)

    def error(self, net: nn.Module) -> float:
        wrong = answers(net, self.data.test, torch.arange(len(self.data.test))) != self.labels
        return 100 * float(wrong.float().mean())

    def make_teacher(self, file: Path) -> nn.Module:
        torch.manual_seed(0)
        net = self.net()
        if file.exists():
            net.load_state_dict(load_file(file))
            return net.eval()
        print(f"training the teacher, {self.options.teacher_steps} steps ...", flush=True)
        net.train()

        seen = copy.copy(self.data.train)
        if self.options.augment:
            seen.augmentation = datasets.FlipShift()
        met = 0

        def term(indices, progress):
            nonlocal met
            x, y = seen.batch(indices, view=met // len(seen))
            met += len(indices)
            return nn.functional.cross_entropy(net(x), y)

        train([net], term, len(seen), self.options.teacher_steps, 0.05, 0)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, file)
        return net.eval()

    def images(self, problem: Problem):
        """What a student sees: of the data set, of another one, or noise, standardised alike."""
        own = self.data.train.subset(self.drawn[: problem.examples])
        if problem.views > 1:
            own.augmentation = datasets.FlipShift()
        if problem.images == "other":
            other = datasets.load(self.options.other).train.images[: problem.examples]
            own.images = other.to(own.images)
        elif problem.images != "own":
            grain = 4 if problem.images == "smooth" else 1
            own.images = datasets.noise(len(own), own.shape, grain=grain).images.to(own.images)
        return own

    def student_of(self, problem: Problem, arm: Arm, seed: int, x: torch.Tensor):
        """A network to be trained, and what keeps its zeros after each step, if it has some."""
        if problem.bits != 32:
            return quantise(self.teacher, problem.bits), None
        if problem.pruned:
            net, masks = prune(self.teacher, problem.pruned)
            return net, lambda: apply_masks(net, masks)
        if problem.other_net:
            given = {"in_channels": x.shape[1], "classes": len(self.data.classes)}
            return create_model(self.options.student, **given).to(x.device), None
        if arm.copied or (problem.width != 1 and self.options.model not in MODELS):
            return narrow(self.teacher, problem.width, x, fresh=not arm.copied, seed=seed), None
        return self.net(problem.width), None

    def cell(self, name: str, arm_name: str, weight: float, lr: float, seed: int) -> dict:
        file = self.options.out / f"{name}_{arm_name}_w{weight:g}_lr{lr:g}_seed{seed}.json"
        if not file.exists():
            found = self.student(PROBLEMS[name], ARMS[arm_name], weight, lr, seed)
            told = {"problem": name, "arm": arm_name, "weight": weight, "lr": lr, "seed": seed}
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(told | found | {"machine": machine()}, indent=1))
            partial.replace(file)
            print(
                f"  {file.stem}: {found['error']:.2f} %, differs {found['differs']:.2f} %",
                flush=True,
            )
        return json.loads(file.read_text())

    def student(self, problem: Problem, arm: Arm, weight: float, lr: float, seed: int) -> dict:
        seen = self.images(problem)
        guide = Guide.record(self.teacher, seen, views=problem.views, places=problem.places)
        guide = guide.to(self.options.device)
        torch.manual_seed(1000 + seed)
        x, _ = seen.batch(torch.arange(2))
        net, after = self.student_of(problem, arm, 1000 + seed, x)
        net.train()
        pairs = pair(net, guide.sites, x) if arm.bits else Pairs([])
        met = 0

        def term(indices, progress):
            nonlocal met
            view = met // len(seen) % problem.views
            met += len(indices)
            x, y = seen.batch(indices, view=view, seed=guide.seed)
            told = guide.batch(indices, view)
            return arm.term(Step(net, self.teacher, pairs, x, y, told, progress, weight))

        nets = [net, pairs.connectors]
        seconds = train(nets, term, len(seen), problem.steps, lr, seed, after=after)
        differs = answers(net, self.data.train, self.validation) != self.goal
        units = problem.views * sum(site.units for site in guide.kept)
        outputs = problem.views * 4 * len(self.data.classes) if arm.outputs else 0
        told = arm.bits * units / 8 + outputs
        return {
            "examples": problem.examples,
            "steps": problem.steps,
            "width": problem.width,
            "bits": problem.bits,
            "pruned": problem.pruned,
            "images": problem.images,
            "places": problem.places,
            "views": problem.views,
            "error": self.error(net),
            "differs": 100 * float(differs.float().mean()),
            "teacher": self.teacher_error,
            "bytes_per_image": told,
            "seconds": seconds,
        }

    def choose(self, name: str, arm_name: str) -> tuple[float, float]:
        """Weight and learning rate: first the weights at the first rate, then the other rates."""
        if self.options.choice:
            return self.options.choice[0], self.options.choice[1]

        def score(choice: tuple[float, float]) -> float:
            return self.cell(name, arm_name, *choice, seed=0)["differs"]

        arm, lrs = ARMS[arm_name], PROBLEMS[name].lrs
        weights = arm.weights if len(arm.weights) == 1 else PROBLEMS[name].weights or arm.weights
        weight, _ = min(((w, lrs[0]) for w in weights), key=score)
        return min(((weight, lr) for lr in lrs), key=score)


def on_device(data, device: str):
    """The data set with both sources there."""
    return dataclasses.replace(data, train=data.train.to(device), test=data.test.to(device))


def machine() -> str:
    found = f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    return found + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "")


def table(rows: list[dict], teacher: float) -> str:
    lines = [
        f"Teacher: {teacher:.2f} %. Mean ± standard deviation over seeds of test error in %.",
        "",
        "| problem | arm | weight, lr | error | above teacher | bytes an image | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["problem"], row["arm"], row["weight"], row["lr"]), []).append(row)
    for (problem, arm, weight, lr), found in groups.items():
        errors = [row["error"] for row in found]
        spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        mean, seconds = statistics.mean(errors), statistics.mean(r["seconds"] for r in found)
        lines.append(
            f"| {problem} | {arm} | {weight:g}, {lr:g} | {mean:.2f}{spread} | {mean - teacher:+.2f} | "
            f"{found[0]['bytes_per_image']:,.0f} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--model", default="allcnn-mini")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, help="safetensors of the model, else it is trained")
    parser.add_argument("--teacher-steps", type=int, default=6000)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    ours = [name for name in ARMS if not name.startswith("torchdistill")]
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ours)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--choice", type=float, nargs=2, metavar=("WEIGHT", "LR"), help="instead of choosing them"
    )
    parser.add_argument("--student", help="the other architecture, such as mobilenet_v2")
    parser.add_argument("--other", default="svhn", help="images of something else")
    parser.add_argument("--augment", action="store_true", help="the teacher's images")
    parser.add_argument("--validation", type=int, default=VALIDATION)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    bench = Bench(options)
    print(f"teacher: {bench.teacher_error:.2f} %", flush=True)
    rows = []
    for name in options.problems:
        for arm in options.arms:
            problem = PROBLEMS[name]
            if ARMS[arm].copied and problem.width == 1.0:
                continue
            weight, lr = bench.choose(name, arm)
            rows += [bench.cell(name, arm, weight, lr, 1 + s) for s in range(options.seeds)]
    text = table(rows, bench.teacher_error)
    (options.out / "table.md").write_text(text + "\n")
    (options.out / "table.json").write_text(json.dumps(rows, indent=1))
    print(text)


if __name__ == "__main__":
    main()
