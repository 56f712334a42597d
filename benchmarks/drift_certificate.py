"""The drift bound and its calibrated form against the true drift, while a real network trains.

    python benchmarks/drift_certificate.py --out benchmarks/results/drift_certificate.json

`allcnn-mini` on the embedded digits: so many epochs of ordinary training, then the certificate is made, and
training goes on; the calibrated form is calibrated at step 5. Seconds are medians of this process alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from twostroke.training.run import versions

import twostroke as ts
from twostroke.models import create_model
from twostroke.solvers import Muon

STEPS = (1, 2, 5, 10, 20, 50, 100, 200)


def clocked(work, times: int = 7) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def run(data, seed: int, lr: float, epochs: int, examples: int) -> dict:
    torch.manual_seed(seed)
    model = create_model("allcnn-mini", in_channels=1).train()
    optimizer = Muon(model.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    x, _ = data.train.batch(torch.arange(examples))
    order = iter(torch.cat([torch.randperm(len(data.train)) for _ in range(epochs + 3)]).split(100))

    def step() -> None:
        images, labels = data.train.batch(next(order))
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def recorded() -> ts.Support:
        model.eval()
        support = ts.record(model, x)
        model.train()
        return support

    for _ in range(epochs * len(data.train) // 100):
        step()
    before, certificate = recorded(), ts.DriftCertificate(model, x)
    rows = []
    for taken in range(1, STEPS[-1] + 1):
        step()
        if taken not in STEPS:
            continue
        drift = before.drift(recorded())
        if taken == 5:
            certificate.calibrate(drift)
        estimate = float(certificate.estimate()) if taken >= 5 else None
        bound = certificate.bound()
        first = certificate.sites[0]
        rows.append(
            {
                "steps": taken,
                "drift": float(drift),
                "bound": float(bound),
                "bound_first_site": bound.by_site[first],
                "drift_first_site": drift.by_site[first],
                "estimate": estimate,
            }
        )
    return {
        "seed": seed,
        "lr": lr,
        "epochs": epochs,
        "rows": rows,
        "seconds_bound": clocked(certificate.bound),
        "seconds_record": clocked(recorded),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lrs", type=float, nargs="+", default=[0.05, 0.005])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = ts.data.load("mnist-12k")
    runs = [
        run(data, seed, lr, options.epochs, options.examples)
        for lr in options.lrs
        for seed in range(options.seeds)
    ]
    for lr in options.lrs:
        some = [r for r in runs if r["lr"] == lr]
        print(f"\nMuon, lr {lr:g}, constant; after {options.epochs} epochs; {options.seeds} seeds")
        print("| steps | true drift % | bound % | first site: true, bound % | calibrated at 5 % |")
        print("|---:|---:|---:|---:|---:|")
        for i, steps in enumerate(STEPS):
            rows = [r["rows"][i] for r in some]

            def mean(name: str, rows=rows) -> str:
                values = [r[name] for r in rows]
                return "–" if None in values else f"{100 * statistics.fmean(values):.2f}"

            print(
                f"| {steps} | {mean('drift')} | {mean('bound')} | {mean('drift_first_site')}, "
                f"{mean('bound_first_site')} | {mean('estimate')} |"
            )
        print(
            f"a bound takes {1e3 * statistics.median(r['seconds_bound'] for r in some):.1f} ms, "
            f"recording the same {options.examples} examples "
            f"{1e3 * statistics.median(r['seconds_record'] for r in some):.1f} ms"
        )
    if options.out:
        document = {"versions": versions(), "runs": runs}
        options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
