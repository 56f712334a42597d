"""Intercept a model's switching functions without touching the model.

Within an `Intercept` PyTorch's *global* module hooks follow which module is running, and a
`TorchFunctionMode` sees every call of a PyTorch function. Nothing is registered on the model, so
`state_dict`, `deepcopy` and `pickle` do not notice. However the block ends, nothing stays behind.

A compiled model would run its compiled code past both. Within the block it runs eagerly (`eagerly`):
right, though without the speed of compilation.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

from ..errors import NestedHoldError, OutsideForwardError, UnholdableError
from .activations import FUNCTIONS, Activation, read
from .eagerly import compiled_runs_eagerly
from .modules import unwrap, walk
from .watch import Watch


class Handler(Protocol):
    """What is to be done at the sites of a model."""

    def begin(self) -> None:
        """A forward pass begins."""

    def handle(self, path: str, call: int, act: Activation, run: Callable[[], Any]) -> Any:
        """Give the output of a switching call; `run()` is the original."""


class _Active(threading.local):
    """The intercepts that this thread is within."""

    def __init__(self) -> None:
        self.intercepts: list[Intercept] = []


_active = _Active()


def is_followed(model: nn.Module) -> bool:
    """Whether this thread is within a block of the model or of a part of it."""
    return any(id(m) in other.names for other in _active.intercepts for m in model.modules())


class Intercept(TorchFunctionMode):
    """Let `handler` answer every switching call that `model` makes within the block."""

    def __init__(self, model: nn.Module, handler: Handler, *, strict: bool = True) -> None:
        super().__init__()
        self.model = unwrap(model)
        modules = walk(self.model)
        self.names = {id(module): name for module, name in modules.items()}
        self._handler = handler
        self._stack: list[nn.Module] = []  # modules that are running
        self._watch = Watch(self.model, modules, self._path) if strict else None
        self._calls: Counter[str] = Counter()
        self._grad = False  # whether the forward pass began with gradients on
        self._exit = ExitStack()

    # -- the block ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        active = _active.intercepts
        for other in active:
            if other.names.keys() & self.names.keys():
                raise NestedHoldError(
                    "this model (or a part of it) is held or recorded already: leave that block "
                    "first, or record before you hold"
                )
        self._thread = threading.get_ident()
        with ExitStack() as stack:
            active.append(self)
            stack.callback(active.remove, self)
            pre = hooks.register_module_forward_pre_hook(self._enter_module)
            stack.callback(pre.remove)
            post = hooks.register_module_forward_hook(self._leave_module, always_call=True)
            stack.callback(post.remove)
            if "torch._dynamo" in sys.modules:  # otherwise nothing can have been compiled
                stack.enter_context(compiled_runs_eagerly)
            if self._watch:
                stack.callback(self._watch.stop)
            super().__enter__()
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._exit:  # also when the line below fails
            if self._watch:  # before the mode that was entered before it
                self._watch.stop()
            # out of the stack wherever it stands: blocks need not end in the order of their begin
            above = []
            while (mode := _pop_mode()) is not self:
                above.append(mode)
            for mode in reversed(above):
                _push_mode(mode)

    # -- following the modules ---------------------------------------------------------------

    def _path(self) -> str | None:
        """Where the call under way belongs; None for another model's."""
        for module in reversed(self._stack):
            if (name := self.names.get(id(module))) is not None:
                return name
            if any(module is other.model for other in _active.intercepts):
                return None  # it is held or recorded on its own, by an intercept of its own
        return None

    # These two are called for each module of each forward pass, and say at sites alone what they saw.

    def _enter_module(self, module: nn.Module, _args: Any) -> None:
        if threading.get_ident() != self._thread:
            self._refuse_thread(module)
        elif module is self.model:
            self._stack[:] = [module]  # a forward pass that was broken off may have left something
            self._calls.clear()
            self._grad = torch.is_grad_enabled()
            self._handler.begin()
            if self._watch:
                self._watch.start()
        elif self._stack:
            self._stack.append(module)
        elif (name := self.names.get(id(module))) is not None:
            raise OutsideForwardError(
                f"{name!r} was called outside of its model's forward pass, where no mask "
                "belongs to it: call the model itself, not its forward method or a part of it, "
                "and hold without activation checkpointing (which calls parts again during "
                "backward)"
            )

    def _leave_module(self, module: nn.Module, _args: Any, output: Any) -> None:
        if self._stack and self._stack[-1] is module:
            self._stack.pop()
            if not self._stack and self._watch:
                self._watch.finish(output)

    def _refuse_thread(self, module: nn.Module) -> None:
        name = self.names.get(id(module))
        if name is not None or getattr(module, "_is_replica", False):
            raise OutsideForwardError(
                f"{name or type(module).__name__!r} ran in another thread than the one that "
                "holds its support (DataParallel, or a checkpoint recomputed during backward): "
                "use DistributedDataParallel, or hold without activation checkpointing"
            )

    # -- following the functions -------------------------------------------------------------

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if (reader := FUNCTIONS.get(func)) is None:  # nearly all calls
            return func(*args, **kwargs)
        if torch.compiler.is_dynamo_compiling():
            raise UnholdableError(
                "a model that is first compiled within a hold cannot be held: call torch.compile "
                "before entering the block"
            )
        path = self._path()
        activation = read(reader, args, kwargs) if path is not None else None
        if path is None or activation is None:
            return func(*args, **kwargs)
        if self._grad and not torch.is_grad_enabled() and _within_autograd_function():
            raise OutsideForwardError(
                f"{path!r} runs within an autograd function of its own (or a reentrant activation "
                "checkpoint), whose backward pass does not know its mask: write it as plain operations, "
                "and hold without activation checkpointing"
            )
        call = self._calls[path]
        self._calls[path] += 1
        if self._watch and self._watch.running:
            with self._watch.pause():
                return self._handler.handle(path, call, activation, lambda: func(*args, **kwargs))
        return self._handler.handle(path, call, activation, lambda: func(*args, **kwargs))


def _within_autograd_function() -> bool:
    """Whether the forward method of a `torch.autograd.Function` runs, which no module or mode shows."""
    kinds, codes = [torch.autograd.Function], set()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        codes.add(getattr(inspect.unwrap(kind.forward), "__code__", None))
    frame = sys._getframe().f_back
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    return frame is not None
