"""What the paper's tables say: error in %, as printed, other methods' figures included."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One line of a table: ours where there is a `task` and an `arm`, else another method's figure.

    `paper` is the printed error in %, None where the paper gives no figure; `measure` says which of a
    cell's numbers is compared: "error", or "mask_at_test" for MaskT.
    """

    label: str
    paper: float | None
    task: str = ""
    arm: str = ""
    measure: str = "error"
    parameters: str = ""  # as printed


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of the paper; a figure draws the curves of its lines."""

    title: str
    lines: tuple[Line, ...]

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Task and arm of everything that must be trained, each once, in order."""
        return list(dict.fromkeys((line.task, line.arm) for line in self.lines if line.task))

    @property
    def tasks(self) -> list[str]:
        """What is trained, by any arm, in order."""
        return list(dict.fromkeys(task for task, _ in self.cells))


def _table2() -> tuple[Line, ...]:
    printed = {
        "a": (10.30, 10.26, 14.35, "1.28M"),
        "b": (9.10, 9.13, 13.25, "1.35M"),
        "c": (9.08, 9.12, 13.73, "1.40M"),
    }
    lines = []
    for size, (sgd, instance, masked, count) in printed.items():
        task, name = f"cifar10-allcnn-{size}", f"ALL-CNN-{size.upper()}"
        lines += [
            Line(name, sgd, task, "sgd", parameters=count),
            Line(f"{name}, I-alternation", instance, task, "instance", parameters=count),
            Line(f"{name}, I-alternation + MaskT", masked, task, "instance", "mask_at_test", count),
        ]
    return tuple(lines)


_TABLE7 = {  # baseline, I-alternation, B-alternation
    "mnist-nin": ("MNIST", 0.47, 0.47, 0.46),
    "cifar10-allcnn-c": ("CIFAR-10 (w/o aug)", 9.08, 9.12, 9.10),
    "cifar10-aug-allcnn-c": ("CIFAR-10 (w/ aug)", 7.25, 7.20, 7.22),
    "cifar100-allcnn-c": ("CIFAR-100", 33.71, 33.68, 33.63),
    "svhn-nin": ("SVHN", 2.35, 2.36, 2.38),
}
_TABLE8 = {  # baseline, DSD, DSD (I-alternation), DSD (B-alternation)
    "imagenet-googlenet": ("GoogLeNet", 31.1, 30.0, 30.2, 29.7),
    "imagenet-vgg16": ("VGG-16", 31.5, 27.2, 26.8, 26.4),
    "imagenet-resnet18": ("ResNet-18", 30.4, 29.2, 29.0, 28.7),
}


def _table7() -> tuple[Line, ...]:
    lines = []
    for task, (name, *printed) in _TABLE7.items():
        arms = (("baseline", "sgd"), ("I-alternation", "instance"), ("B-alternation", "batch"))
        for (label, arm), paper in zip(arms, printed, strict=True):
            lines.append(Line(f"{name}, {label}", paper, task, arm))
        lines.append(Line(f"{name}, majority vote", None, task, "vote"))
    return tuple(lines)


def _table8() -> tuple[Line, ...]:
    lines = []
    for task, (name, base, dsd, instance, batch) in _TABLE8.items():
        lines += [
            Line(f"{name}, baseline", base, task, "dense"),
            Line(f"{name}, the same epochs without a mask", None, task, "none"),
            Line(f"{name}, DSD", dsd, task, "magnitude"),
            Line(
                f"{name}, DSD (I-alternation), connections", instance, task, "instance-connections"
            ),
            Line(f"{name}, DSD (B-alternation), connections", batch, task, "batch-connections"),
            Line(f"{name}, DSD (I-alternation), units", instance, task, "instance-units"),
            Line(f"{name}, DSD (B-alternation), units", batch, task, "batch-units"),
        ]
    return tuple(lines)


def _pair(task: str, name: str, sgd: float, instance: float, count: str = "") -> tuple[Line, Line]:
    return (
        Line(name, sgd, task, "sgd", parameters=count),
        Line(f"{name} (I-alternation)", instance, task, "instance", parameters=count),
    )


EXPERIMENTS = {
    "table2": Experiment("Table 2: baselines on CIFAR-10 without augmentation", _table2()),
    "table3": Experiment(
        "Table 3: CIFAR-10",
        (
            Line("Maxout", 11.68, parameters="> 6M"),
            Line("Network in Network", 10.41, parameters="1M"),
            Line("Deeply Supervised", 9.69, parameters="1M"),
            *_pair("cifar10-allcnn-c", "ALL-CNN-C", 9.08, 9.12, "1.3M"),
            Line("augmented: Maxout", 9.38, parameters="> 6M"),
            Line("augmented: DropConnect", 9.32),
            Line("augmented: dasNet", 9.22, parameters="> 6M"),
            Line("augmented: Network in Network", 8.81, parameters="1M"),
            Line("augmented: Deeply Supervised", 7.97, parameters="1M"),
            *_pair("cifar10-aug-allcnn-c", "augmented: ALL-CNN-C", 7.25, 7.20, "1.3M"),
        ),
    ),
    "table4": Experiment(
        "Table 4: CIFAR-100",
        (
            Line("CNN + tree prior", 36.85),
            Line("Network in Network", 35.68),
            Line("Deeply Supervised", 34.57),
            Line("Maxout (larger)", 34.54),
            Line("dasNet", 33.78),
            Line("Fractional Pooling (1 test)", 31.45),
            Line("Fractional Pooling (12 tests)", 26.39),
            *_pair("cifar100-allcnn-c", "ALL-CNN-C", 33.71, 33.68),
        ),
    ),
    "table5": Experiment(
        "Table 5: MNIST",
        (
            Line("2-layer CNN + 2-layer NN", 0.53),
            Line("Stochastic Pooling", 0.47),
            Line("ConvMaxout + Dropout", 0.45),
            *_pair("mnist-nin", "NIN + Dropout", 0.47, 0.47),
        ),
    ),
    "table6": Experiment(
        "Table 6: SVHN",
        (
            Line("Stochastic Pooling", 2.80),
            Line("Rectifier + Dropout", 2.78),
            Line("Rectifier + Dropout + Synthetic Translation", 2.68),
            Line("ConvMaxout + Dropout", 2.47),
            Line("Multi-digit Number Recognition", 2.16),
            Line("DropConnect", 1.94),
            *_pair("svhn-nin", "NIN + Dropout", 2.35, 2.36),
        ),
    ),
    "table7": Experiment("Table 7: instance-wise and batch-wise alternation", _table7()),
    "table8": Experiment("Table 8: dense-sparse-dense on ImageNet, top-1", _table8()),
    "figure1": Experiment(
        "Figure 1: SGD and alternation on MNIST",
        _pair("mnist-nin", "NIN + Dropout", 0.47, 0.47),
    ),
    "figure3": Experiment(
        "Figure 3: SGD and alternation on CIFAR-10 and MNIST",
        (
            *_pair("cifar10-allcnn-c", "CIFAR-10, ALL-CNN-C", 9.08, 9.12),
            *_pair("mnist-nin", "MNIST, NIN + Dropout", 0.47, 0.47),
        ),
    ),
}
