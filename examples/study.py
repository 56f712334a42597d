"""What a network takes for alike, and where it bends: python examples/study.py

A small network learns the digits. Then its supports, one bit a unit, say which images it treats alike, and a
walk from one image to another meets every place where a unit switches: found, not sampled.
"""

import torch

import twostroke as ts


def main(examples: int = 2000, epochs: int = 2) -> tuple[float, int]:
    torch.manual_seed(0)
    digits = ts.data.load("mnist-12k")
    few = ts.data.Data("few digits", digits.train.subset(torch.arange(examples)), digits.test)
    model = ts.models.create_model("allcnn-mini", in_channels=1, width=0.25)
    ts.fit(model, few, settings=ts.FAST.but(epochs=epochs, batch_size=50))
    model.eval()

    images, labels = digits.test.batch(torch.arange(300))
    support = ts.record(model, images)
    print(f"{support.density():.0%} of the units are on")

    # neighbours: the image whose support differs in the fewest units
    nearest = ts.study.neighbours(support, k=1).indices[:, 0]
    same = float((labels[nearest] == labels).double().mean())
    print(f"{same:.0%} of the digits have a nearest one of their own class")

    # a walk in a straight line; between two switches the network is affine
    model, images = model.double(), images.double()
    a = 0
    of_another_class = int((labels != labels[a]).nonzero()[0])
    for b in (int(nearest[a]), of_another_class):
        line = ts.study.line(model, images[a], images[b])
        first = line.switches[0]
        print(f"from a {labels[a]} to a {labels[b]}: {line.regions:,} linear regions;", end=" ")
        print(f"the first unit switches at {first.t:.5f} of the way, in {first.site.path}")
    return same, line.regions


if __name__ == "__main__":
    main()
