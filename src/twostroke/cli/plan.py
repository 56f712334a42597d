"""`twostroke plan`: what a large run will store, read and wait for, before it is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table

from .._amounts import duration, size

if TYPE_CHECKING:
    from ..training.plan import Plan


def plan(
    *,
    model: str,
    examples: int,
    image: int = 224,
    channels: int = 3,
    classes: int = 1000,
    processes: int = 1,
    batch_size: int = 256,
    epochs: int = 90,
    warmup: int = 2,
    gap: int = 2,
    order: Literal["shuffle", "balanced"] = "shuffle",
    pooling: bool = False,
    processes_per_machine: int = 8,
    device_memory: float = 80.0,
    host_memory: float = 512.0,
    link: float = 20.0,
    disk: float = 2.0,
    tflops: float = 50.0,
) -> None:
    """Say what instance-wise alternation takes: bytes stored and read, passes, and what it waits for.

    Nothing is trained or allocated; the sites are those of the model itself. What is said of time
    rests on the rates below, which are assumptions: give your machine's.

    Args:
        model: Name of a model; `twostroke models` lists them.
        examples: Training examples.
        image: Height and width of the images, in pixels.
        channels: Channels of the images.
        classes: Number of classes.
        processes: Processes that share the work, one for each device.
        batch_size: Examples a step, of all processes together.
        epochs: Epochs in all.
        warmup: Epochs before the first support stroke.
        gap: Length of a weight stroke, in epochs.
        order: Of the examples, see train: balanced gives processes equal shares of a batch.
        pooling: Hold max pooling too.
        processes_per_machine: Processes that share a machine's memory and disk.
        device_memory: Memory of one device, in GB; supports may take half.
        host_memory: Memory of one machine, in GB; supports may take half.
        link: GB/s from host memory to one device.
        disk: GB/s of one machine's disk, reading rows in random order.
        tflops: 10¹² operations a second that a device keeps up in training.
    """
    import torch

    from ..errors import SettingsError
    from ..models import create_model
    from ..support import sites
    from ..training.plan import Machine, forward_flops, make_plan

    for name, value in (("image", image), ("channels", channels), ("classes", classes)):
        if value < 1:
            raise SettingsError(f"--{name} is 1 or more, not {value}")
    machine = Machine(
        processes=processes_per_machine,
        device_memory=device_memory,
        host_memory=host_memory,
        link=link,
        disk=disk,
        tflops=tflops,
    )
    try:
        with torch.device("meta"):  # shapes only: neither memory nor time
            net = create_model(model, classes=classes, in_channels=channels).eval()
            found = sites(net, torch.empty(2, channels, image, image), pooling=pooling)
            flops = forward_flops(net, torch.empty(1, channels, image, image))
    except RuntimeError as error:
        raise SettingsError(
            f"{model} does not take images of {channels}×{image}×{image}: {error}"
        ) from error
    if not found:
        raise SettingsError(f"{model} has no site that could be held")
    made = make_plan(
        found,
        flops,
        examples=examples,
        processes=processes,
        batch_size=batch_size,
        epochs=epochs,
        warmup=warmup,
        gap=gap,
        order=order,
        machine=machine,
    )
    console = Console()
    console.print(_table(f"{model} at {channels}×{image}×{image}", len(found), made))
    console.print(
        f"Assumed: {size(device_memory * 1e9)} a device and {size(host_memory * 1e9)} a machine of "
        f"{processes_per_machine} processes, half of each for supports; {link:g} GB/s from host to "
        f"device, {disk:g} GB/s from a machine's disk, {tflops:g} TFLOP/s in training.",
        highlight=False,
    )
    console.print(conclusion(made), highlight=False)


def _table(title: str, sites: int, plan: Plan) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    table.add_column("why", overflow="fold")
    table.add_row("an example", size(plan.row), f"one bit a unit, {sites} sites")
    each = f"{-(-plan.examples // plan.processes):,} examples"
    table.add_row("a process stores", size(plan.bytes_each), each)
    table.add_row("all processes store", size(plan.bytes_in_all), f"{plan.examples:,} examples")
    table.add_section()
    strokes = "none: the warm-up lasts as long as the run"
    if plan.strokes:
        strokes = f"passes over the data, {100 * plan.extra_work:.0f} % more computing"
    table.add_row("support strokes", f"{plan.strokes}", strokes)
    if plan.most_strokes > plan.strokes:
        table.add_row("", f"{plan.most_strokes}", "at most, where drift ends every weight stroke")
    table.add_row("written by strokes", size(plan.strokes * plan.bytes_in_all), "in the whole run")
    table.add_row(
        "read in a step", size(plan.bytes_a_step), f"by all, batches of {plan.batch_size:,}"
    )
    if plan.processes > 1:
        even = plan.batch_size / plan.processes
        table.add_row(
            "busiest process", f"{plan.share:.1f}", f"of a batch; an equal share is {even:g}"
        )
    table.add_section()
    for what, text in (
        ("computing", "forward and backward"),
        ("link", "reading from host memory"),
        ("disk", "reading from disk"),
    ):
        table.add_row(f"a step's {what}", duration(plan.seconds(what)), text)
    return table


def conclusion(plan: Plan) -> str:
    """One sentence: where the supports fit, and what a step waits for."""
    where = {
        "device": "fit beside the model in device memory (store 'device'), where reading them costs "
        "next to nothing",
        "host": "do not fit beside the model but in host memory (store 'host')",
        "file": "fit into neither memory and go to disk (store 'file'), which must hold two rounds",
    }[plan.kind]
    text = f"The supports, {size(plan.bytes_each)} a process, {where}."
    waits = plan.waits
    slowest = max(waits, key=lambda what: waits[what])
    if len(waits) == 1:
        return f"{text} Computing is the bottleneck."
    if slowest == "computing":
        reading = max(v for k, v in waits.items() if k != "computing") / waits["computing"]
        return f"{text} Computing is the bottleneck: reading them takes {100 * reading:.0f} % of its time."
    return (
        f"{text} The {slowest} is the bottleneck: a step computes for {duration(waits['computing'])} "
        f"and reads for {duration(waits[slowest])}. More processes store less each, and "
        "batch-wise alternation stores nothing."
    )
