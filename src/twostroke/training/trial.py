"""A run is tried before it trains: what would fail after an hour is refused now, and nothing is changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .._generators import generators_kept
from ..errors import SettingsError, TwostrokeError
from ..support.modes import evaluating
from ..support.record import buffers_kept
from .adding import Adding, adds_up, known
from .objective import Objective

if TYPE_CHECKING:
    from .loop import Loop

_SOME = 32  # examples on which it is seen how losses add up


def try_run(loop: Loop) -> None:
    """One step of each phase in training mode, on the smallest batch of the run; and whether losses add up.

    Raises `SettingsError` for what goes wrong, and what the alternation raises. Weights, buffers, gradients
    and generators are as before; the optimiser is not asked. All processes run the same.
    """
    sizes = [len(loop.mine(part)) for parts in loop.batches(0) for part in parts]
    if loop.settings.sync_batch_norm:  # whose statistics are of all processes' examples
        sizes = [len(part) for parts in loop.batches(0) for part in parts]
    least = min(filter(None, sizes), default=loop.settings.batch_size)
    least = min(int(size) for size in loop.processes.each(str(least)))
    with _nothing_changed(loop), loop.processes.together():
        _steps(loop, least)
        _losses(loop)


@contextmanager
def _nothing_changed(loop: Loop) -> Iterator[None]:
    gradients = [p.grad for p in loop.parameters]
    added = [
        (module, copy.deepcopy(module.get_extra_state()))
        for module in (*loop.model.modules(), *loop.beside.modules())
        if type(module).get_extra_state is not nn.Module.get_extra_state
    ]
    with generators_kept(), buffers_kept(loop.model), buffers_kept(loop.beside):
        try:
            yield
        finally:
            for p, gradient in zip(loop.parameters, gradients, strict=True):
                p.grad = gradient
            for module, state in added:
                module.set_extra_state(state)


def _steps(loop: Loop, size: int) -> None:
    batch = loop.fetch(torch.arange(size), 0.0)
    loss = loop.objective.loss
    remembers = loss if isinstance(loss, nn.Module) and loop.in_parts else nn.Module()
    before = [buffer.clone() for buffer in remembers.buffers()]
    for phase, under in loop.alternator.rehearsal(batch.x):
        for p in loop.parameters:
            p.grad = None
        try:
            with under, loop.cast():
                value = loop.objective(loop.model, batch)
                penalty = loop.alternator.penalty()
            if not isinstance(value, Tensor) or value.numel() != 1:
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise SettingsError(
                    f"the loss of a batch is {shape}, not one number: give a loss with reduction='mean'"
                )
            (value if penalty is None else value + penalty).backward()
        except (TwostrokeError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a model or a loss that we know nothing of may raise
            raise SettingsError(
                f"a step of training ({phase}) fails on a batch of {size}{_why(loop, size)}: "
                f"{type(error).__name__}: {error}"
            ) from error
    if not all(map(torch.equal, remembers.buffers(), before)):
        _refuse_parts("the loss changes its buffers in each call, and")


def _why(loop: Loop, size: int) -> str:
    """How a run comes to a batch that is smaller than it should be, and what to do."""
    settings, count = loop.settings, loop.processes.count
    if size == settings.batch_size:
        return ""
    parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
    parts += f" among {count} processes" if count > 1 else ""
    return (
        f", the smallest that {len(loop.train)} examples in batches of {settings.batch_size}{parts} come "
        "to (set another batch_size)"
    )


def _losses(loop: Loop) -> None:
    """Whether the losses of parts make that of a batch; only figures need it where steps are whole."""
    objective = loop.objective
    plain = type(objective) is Objective
    losses = {id(loss): loss for loss in (loop.measure.loss, objective.loss)}
    unknown = [loss for loss in losses.values() if not known(loss)]
    if not plain and Adding.of(objective.loss).kind == "sum":
        raise SettingsError(
            "the loss within an objective of your own is the sum over a batch, and figures are means: give it "
            "one with reduction='mean'"
        )
    count = len(loop.train)
    places = torch.arange(min(_SOME, count)) * count // min(_SOME, count)
    own = loop.in_parts and not plain
    if len(places) < 2 or not (unknown or own):
        return
    if own and Adding.of(objective.loss).kind != "mean":
        _refuse_parts("the loss within an objective of your own")
    with torch.no_grad(), evaluating(loop.model), evaluating(loop.beside):
        whole = loop.fetch(places, 0.0)
        outputs = _spread(loop.model(whole.x))
        every = whole.y.argsort().cpu()  # parts of other classes, which weights tell apart

        def of_objective(part: Tensor) -> Tensor:
            hook = loop.model.register_forward_hook(lambda *_: outputs[part])
            try:
                return objective(loop.model, loop.fetch(places[part], 0.0))
            finally:
                hook.remove()

        values = [lambda part, f=loss: f(outputs[part], whole.y[part]) for loss in unknown]
        kinds = [_kind(value, every) for value in values]
        if "sum" in kinds:
            raise SettingsError(
                "the loss is the sum over a batch: let it return the mean, or give one of PyTorch's with "
                "reduction='sum', which is known as a sum"
            )
        if own:
            kinds = [_kind(of_objective, every)]
    if set(kinds) <= {"mean"}:
        return
    if loop.in_parts:
        _refuse_parts("the loss")
    loop.alternator.notes.append(
        "the loss of a batch is no mean over its examples: losses that are told are means over batches"
    )


def _spread(
    outputs: Tensor,  # (examples, classes)
) -> Tensor:
    """Outputs that differ: of a fresh network all may be equal, and then any mean of losses is the same."""
    draw = torch.Generator().manual_seed(0)
    shares = bool(outputs.min() >= 0) and 0 < float(outputs.max()) <= 1  # must stay between 0 and 1
    noise = torch.rand if shares else torch.randn
    drawn = noise(outputs.shape, generator=draw).to(outputs)
    return outputs * drawn if shares else outputs + 3 * drawn


def _kind(value: Callable[[Tensor], Tensor], every: Tensor) -> str:
    """How a loss adds up, after a look whether it is the same when it is asked again."""

    def asked(part: Tensor) -> float:
        with generators_kept():
            return float(value(part))

    first, again = asked(every), asked(every)
    if abs(first - again) > 1e-5 * abs(first):
        raise SettingsError(
            f"the loss gives {first:.6g} and then {again:.6g} for the same outputs, in evaluation mode: what "
            "it remembers must be buffers of an nn.Module that change in training mode only"
        )
    return adds_up(asked, every)


def _refuse_parts(what: str) -> None:
    raise SettingsError(
        f"{what} is no mean over the examples of a batch, so that a batch cannot be run in parts: set "
        "accumulate=1 in one process, or give PyTorch's own (nn.CrossEntropyLoss, also with weight, "
        "ignore_index or reduction='sum')"
    )
