"""Alternation in a loop of your own: python examples/own_loop.py

Which units are on is found once an epoch for each example, and held while the weights descend. Nothing wraps
the model; the optimiser and the loss are yours.
"""

import torch
import torch.nn.functional as F

import twostroke as ts

EXAMPLES, BATCH, EPOCHS = 600, 50, 3


def main() -> float:
    torch.manual_seed(0)
    data = ts.data.load("mnist-12k")
    x, y = data.train.batch(torch.arange(EXAMPLES))
    x_test, y_test = data.test.batch(torch.arange(500))
    model = ts.models.create_model("allcnn-mini", in_channels=1)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(EPOCHS):
        held = None
        if epoch > 0:  # the first epoch runs live: a fresh network's support says little
            model.eval()
            held = ts.record(model, x)  # support stroke: one bit a unit and example
            now = f"{held.density():.2f} of the units are on"
        model.train()
        for part in torch.randperm(EXAMPLES).split(BATCH):
            optimizer.zero_grad()
            if held is None:
                loss = F.cross_entropy(model(x[part]), y[part])
            else:
                with ts.hold(model, held[part]):  # weight stroke
                    loss = F.cross_entropy(model(x[part]), y[part])
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            error = (model(x_test).argmax(1) != y_test).float().mean()
        print(f"epoch {epoch + 1}: {'live' if held is None else now}, test error {error:.1%}")
    return float(error)


if __name__ == "__main__":
    main()
