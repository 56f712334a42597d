"""Intercept a model's switching functions without touching the model.

While an `Intercept` is entered, two things are in place, neither of them on the user's module:
PyTorch's *global* module hooks follow which module is running, and a `TorchFunctionMode` sees every
call of a PyTorch function. Nothing is registered on the model, so `state_dict`, `deepcopy` and
`pickle` do not notice, and leaving the block, by whatever way, leaves nothing behind.

A compiled model would run its compiled code past both, so that within the block compiled functions
run eagerly (`torch.compiler.set_stance`): right, though without the speed of compilation.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

from ..errors import NestedHoldError, OutsideForwardError, UnholdableError
from .activations import FUNCTIONS, Activation
from .watch import Watch, walk


class Handler(Protocol):
    """What is to be done at the sites of a model."""

    def begin(self) -> None:
        """A forward pass begins."""

    def handle(self, path: str, call: int, act: Activation, run: Callable[[], Any]) -> Any:
        """Give the output of a switching call; `run()` is the original."""


class _Eagerly:
    """Lets compiled functions run eagerly while any thread is within a block.

    Counted, because the compiler's stance is one for all threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._stance: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._stance.__exit__(None, None, None)


_eagerly = _Eagerly()
_HOOKED = ".*global hooks on modules"


def _expect_hooks() -> None:
    """Silence a compiled module's warning that global hooks will see it too: ours know.

    For good, because a filter that came and went with each block would make Python show every other
    warning anew in each block.
    """
    first = warnings.filters[0] if warnings.filters else (None, None)
    if getattr(first[1], "pattern", None) != _HOOKED:
        warnings.filterwarnings("ignore", _HOOKED, UserWarning)


class _Active(threading.local):
    """The intercepts that this thread is within."""

    def __init__(self) -> None:
        self.intercepts: list[Intercept] = []


_active = _Active()


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside what `torch.compile` and DistributedDataParallel put around it.

    Raises `UnholdableError` for forms that run where no Python can follow.
    """
    if not isinstance(model, nn.Module):
        raise UnholdableError(f"a model is a torch.nn.Module, not {type(model).__name__}")
    while True:
        if isinstance(model, nn.DataParallel):
            raise UnholdableError(
                "DataParallel runs copies of the model in other threads, where no support can be "
                "held: pass its .module, or use DistributedDataParallel"
            )
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            break
    if isinstance(model, torch.jit.ScriptModule):
        raise UnholdableError(
            "a scripted or traced model runs outside of Python, where no call can be seen: "
            "pass the module that it was made from"
        )
    return model


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
        # modules that are running, each with its path; none where the call is another model's
        self._stack: list[tuple[nn.Module, str | None]] = []
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
                stack.enter_context(_eagerly)
                _expect_hooks()
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
        return self._stack[-1][1] if self._stack else None

    def _enter_module(self, module: nn.Module, _args: Any) -> None:
        name = self.names.get(id(module))
        if threading.get_ident() != self._thread:
            if name is not None or getattr(module, "_is_replica", False):
                raise OutsideForwardError(
                    f"{name or type(module).__name__!r} ran in another thread than the one that "
                    "holds its support (DataParallel, or a checkpoint recomputed during backward): "
                    "use DistributedDataParallel, or hold without activation checkpointing"
                )
            return
        if module is self.model:
            self._stack.clear()  # a forward pass that was broken off may have left something
            self._calls.clear()
            self._grad = torch.is_grad_enabled()
            self._handler.begin()
            if self._watch:
                self._watch.start()
        elif not self._stack:
            if name is not None:
                raise OutsideForwardError(
                    f"{name!r} was called outside of its model's forward pass, where no mask "
                    "belongs to it: call the model itself, not its forward method or a part of it, "
                    "and hold without activation checkpointing (which calls parts again during "
                    "backward)"
                )
            return
        if name is None and not self._is_another(module):
            name = self._path()
        self._stack.append((module, name))

    def _is_another(self, module: nn.Module) -> bool:
        """Whether the module is held or recorded on its own, by an intercept of its own."""
        return any(module is other.model for other in _active.intercepts)

    def _leave_module(self, module: nn.Module, _args: Any, output: Any) -> None:
        if self._stack and self._stack[-1][0] is module:
            self._stack.pop()
            if not self._stack and self._watch:
                self._watch.finish(output)

    # -- following the functions -------------------------------------------------------------

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        reader = FUNCTIONS.get(func)
        if reader is None and not torch.compiler.is_dynamo_compiling():  # nearly all calls
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        if torch.compiler.is_dynamo_compiling():
            raise UnholdableError(
                "a model that is first compiled within a hold cannot be held: call torch.compile "
                "before entering the block"
            )
        path = self._path()
        activation = read(reader, args, kwargs) if reader and path is not None else None
        if path is None or activation is None:
            return func(*args, **kwargs)
        if self._grad and not torch.is_grad_enabled() and _within_checkpoint():
            raise OutsideForwardError(
                f"{path!r} runs within a reentrant activation checkpoint, which would run it again "
                "during backward without its mask: hold without activation checkpointing"
            )
        call = self._calls[path]
        self._calls[path] += 1
        with self._watch.pause() if self._watch and self._watch.running else nullcontext():
            return self._handler.handle(path, call, activation, lambda: func(*args, **kwargs))


def _within_checkpoint() -> bool:
    frame = sys._getframe().f_back
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
        frame = frame.f_back
    return False


def read(
    reader: Callable[..., Activation | None], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Activation | None:
    """The activation of a call, or None where it is none that can be held."""
    if kwargs.get("out") is not None:
        return None
    kwargs = dict(kwargs)
    kwargs.pop("out", None)
    if "input" in kwargs:  # the name that PyTorch gives to what we call q
        args = (kwargs.pop("input"), *args)
    q = args[0]
    if not isinstance(q, torch.Tensor) or not q.is_floating_point() or q.ndim < 2:
        return None
    # F.relu(x, inplace=True) and torch.relu_(x) arrive here as two functions
    inplace = kwargs.pop("inplace", False)
    return reader(*args, **kwargs, **({"inplace": True} if inplace else {}))
