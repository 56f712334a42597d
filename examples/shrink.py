"""A network of half the width from a trained one and 300 pictures without labels: python examples/shrink.py

Takes about a minute on two CPU cores. Needs torch-pruning: pip install 'twostroke[shrink]'.
"""

import copy

import torch

import twostroke as ts
from twostroke.guidance.students import narrow


def main(lessons: int = 10_000, steps: int = 150) -> tuple[float, float, float]:
    torch.manual_seed(0)
    data = ts.data.load("mnist-12k")
    teacher = ts.models.create_model("allcnn-mini", in_channels=1)  # you have a trained one
    digits = ts.data.Data("digits", data.train.subset(torch.arange(lessons)), data.test)
    ts.fit(teacher, digits, settings=ts.FAST.but(epochs=1, batch_size=50))
    teacher.eval()

    images = data.train.subset(torch.arange(300))  # their labels are not looked at
    guide = ts.Guide.record(teacher, images)
    small = narrow(teacher, 0.5, images.batch(torch.arange(1))[0])
    alone = copy.deepcopy(small)
    guided = ts.distill(small, guide, images, test=data.test, steps=steps)
    outputs = ts.distill(alone, guide, images, test=data.test, steps=steps, weight=0)

    error = ts.evaluate(teacher, data.test).error
    count = sum(p.numel() for p in teacher.parameters()), sum(p.numel() for p in small.parameters())
    print(f"teacher: {count[0]:,} weights, test error {error:.2f} %")
    print(f"half as wide: {count[1]:,} weights, guided {guided.error:.2f} %,", end=" ")
    print(f"by the teacher's outputs alone {outputs.error:.2f} %")
    return error, guided.error, outputs.error


if __name__ == "__main__":
    main()
