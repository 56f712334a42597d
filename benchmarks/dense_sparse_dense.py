"""Dense-sparse-dense by every mask against the control, on real images.

    python benchmarks/dense_sparse_dense.py --out benchmarks/results/dense-sparse-dense.json
    python benchmarks/dense_sparse_dense.py --data npz:cifar10.npz --train 10000 --batch 100 \\
        --epochs 12 6 6 --lrs 0.2 0.02 0.002 --weight-decay 2e-3 --out ...

The dense phase is trained once a seed; each mask then begins with its weights, so that differences are
paired. allcnn-mini on the first training examples, tested on the whole test set.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from twostroke.training.run import versions

import twostroke as ts
from twostroke.sparsity import MASKS, Recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist-12k")
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs=3, default=(4, 3, 3))
    parser.add_argument("--lrs", type=float, nargs=3, default=(0.1, 0.02, 0.005))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    whole = ts.data.load(options.data)
    train = whole.train.subset(torch.arange(options.train))
    data = ts.data.Data(whole.name, train, whole.test, whole.classes)
    dense, sparse, again = options.epochs
    plan = Recipe(
        epochs=(dense, 0, 0),
        lrs=tuple(options.lrs),
        batch_size=options.batch,
        weight_decay=options.weight_decay,
    )
    later = replace(plan, epochs=(0, sparse, again))
    rows = []
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        model = ts.models.create_model("allcnn-mini", in_channels=data.train.shape[0])
        start = ts.dense_sparse_dense(model, data, mask="none", phases=plan, seed=seed).error
        for mask in MASKS:
            result = ts.dense_sparse_dense(
                copy.deepcopy(model), data, mask=mask, phases=later, seed=seed
            )
            pruned, final = result.phases
            row = {
                "mask": mask,
                "seed": seed,
                "dense": start,
                "masked": pruned.error_masked,
                "renormed": pruned.error_estimated,
                "sparse": pruned.error,
                "final": final.error,
                "loss_train": final.history[-1].loss_live,
                "loss_test": final.history[-1].loss_test,
                "sparsity": pruned.sparsity,
                "units_on": pruned.units_on,
                "seconds": result.history.seconds,
            }
            rows.append(row)
            print(
                {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True
            )
    control = {row["seed"]: row["final"] for row in rows if row["mask"] == "none"}
    print("| mask | zeros % | sparse % | final % (sd) | − control (sd) |\n|---|---|---|---|---|")
    for mask in MASKS:
        some = [row for row in rows if row["mask"] == mask]
        apart = [row["final"] - control[row["seed"]] for row in some]
        final = [row["final"] for row in some]

        def told(values: list[float]) -> str:
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            return f"{statistics.fmean(values):.2f} ({spread:.2f})"

        zeros = 100 * statistics.fmean(row["sparsity"] for row in some)
        ended = statistics.fmean(row["sparse"] for row in some)
        print(f"| {mask} | {zeros:.1f} | {ended:.2f} | {told(final)} | {told(apart)} |")
    if options.out:
        document = {"versions": versions(), "data": whole.note, "test": len(data.test)}
        for name in ("train", "batch", "weight_decay", "epochs", "lrs"):
            document[name] = getattr(options, name)
        document["rows"] = rows
        options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
