"""Figure 1 of the paper, small: python examples/reproduce_figure.py curves.png

The error on test images, epoch by epoch, of SGD and of alternation between support and weights. The figure with
the paper's own network takes hours: twostroke reproduce figure1 --scale full.
"""

import sys
from pathlib import Path

import torch

import twostroke as ts
from twostroke.report import draw_curves

ARMS = {"SGD": None, "alternation": ts.InstanceWise(warmup=2, gap=2)}


def main(picture: Path, examples: int = 3000, epochs: int = 6) -> dict[str, float]:
    digits = ts.data.load("mnist-12k")
    few = ts.data.Data("few digits", digits.train.subset(torch.arange(examples)), digits.test)
    histories, errors = {}, {}
    for name, alternation in ARMS.items():
        torch.manual_seed(0)  # the same weights, and the same order of digits
        model = ts.models.create_model("allcnn-mini", in_channels=1)
        settings = ts.Settings(epochs=epochs, batch_size=50, lr=0.2)
        result = ts.fit(model, few, alternation=alternation, settings=settings)
        histories[name], errors[name] = result.history, result.error
        print(f"{name}: {result.error:.2f} % after {epochs} epochs, {result.history.seconds:.0f} s")
    note = f"{examples:,} digits, {len(digits.test):,} for the test; allcnn-mini; seed 0"
    draw_curves(histories, picture, title="SGD and alternation", note=note)
    return errors


if __name__ == "__main__":
    main(Path(sys.argv[1]))
