"""Several processes: Accelerate finds out who is there and on which device, PyTorch adds up.

Where there is one process, nothing here is used, and Accelerate is not imported.
"""

from __future__ import annotations

import atexit
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ElsewhereError, ProcessError, SettingsError, TwostrokeError
from .base import Processes
from .launch import launched


class Several(Processes):
    """Processes that train one model, one batch among them at a time."""

    def __init__(self, *, cpu: bool, timeout: float, sync_batch_norm: bool = False) -> None:
        from accelerate import PartialState

        self.timeout = timeout
        self._lost = False
        self.sync_batch_norm = sync_batch_norm
        with self.watching(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "OMP_NUM_THREADS", UserWarning)
            # gives back what is there where a caller has made it before
            self._state = PartialState(cpu=cpu, timeout=timedelta(seconds=timeout))
        self.index, self.count = self._state.process_index, self._state.num_processes
        self.here = int(os.environ.get("LOCAL_WORLD_SIZE", self.count))
        atexit.register(self._part)
        if self.count != launched():
            raise SettingsError(
                f"there are {launched()} processes and accelerate knows of {self.count}: launch with "
                "torchrun or accelerate launch, which tell each process its place"
            )

    def device(self, name: str) -> torch.device | None:
        """The device that the launcher gave to this process."""
        return torch.device("cpu") if name == "cpu" else self._state.device

    @property
    def first_here(self) -> bool:
        """Whether this is the first process on its machine."""
        return bool(self._state.is_local_main_process)

    # -- collective operations -----------------------------------------------------------------

    def _here(self, values: Tensor) -> Tensor:
        """A copy where the backend can reach it."""
        return values.detach().to(self._state.device, copy=True).contiguous()

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, the same bits in each of them."""
        whole = self._here(values)
        with self.watching():
            dist.all_reduce(whole)
        return whole.to(values.device)

    def total(self, sums: Tensor, examples: int) -> tuple[Tensor, float | Tensor]:
        """One operation for sums and number, without waiting for the device."""
        kind = torch.promote_types(sums.dtype, torch.float32)
        flat = torch.cat([sums.flatten().to(kind), sums.new_tensor([examples]).to(kind)])
        whole = self.sum(flat * (not self.idle))
        return whole[:-1].view(sums.shape), whole[-1]

    def same(self, *modules: nn.Module, buffers_only: bool = False) -> None:
        """Give every process the main one's parameters and buffers."""
        for module in modules:
            tensors = [*module.buffers(), *([] if buffers_only else module.parameters())]
            for tensor in tensors:
                with self.watching(), torch.no_grad():
                    there = self._here(tensor)
                    dist.broadcast(there, 0)
                    tensor.data.copy_(there)

    # -- training --------------------------------------------------------------------------------

    @contextmanager
    def wrapped(self, model: nn.Module) -> Iterator[nn.Module]:
        """DistributedDataParallel around the model, which stays as it is inside."""
        where = self._state.device
        ids = [where.index] if where.type == "cuda" else None
        with _synchronised(model) if self.sync_batch_norm else nullcontext():
            with self.watching():
                net = DistributedDataParallel(model, device_ids=ids)
            yield net

    def adding_up(self, wrapped: nn.Module, now: bool) -> AbstractContextManager[Any]:
        """Gradients of the parts before the last stay in their process."""
        assert isinstance(wrapped, DistributedDataParallel)
        return nullcontext() if now else wrapped.no_sync()

    def mean_gradients(self, module: nn.Module) -> None:
        """One sum for each parameter that is trained."""
        for parameter in module.parameters():
            if parameter.requires_grad:
                own = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                parameter.grad = self.sum(own) / self.count

    # -- errors ----------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise, in every process, what the first of them to have an error says."""
        error: Exception | None = None
        try:
            yield
        except (TwostrokeError, OSError) as raised:
            error = raised
        texts: list[str | None] = [None] * self.count
        with self.watching():
            dist.all_gather_object(texts, None if error is None else str(error))
        first = next((k for k, text in enumerate(texts) if text is not None), None)
        if first is None:
            return
        if error is not None and first == self.index:
            if isinstance(error, TwostrokeError):
                error.agreed = True
            raise error
        raise ElsewhereError(f"process {first}: {texts[first]}") from error

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Say what the backend's errors mean: another process is gone."""
        try:
            yield
        except TwostrokeError:
            raise
        except RuntimeError as error:
            if not _of_the_backend(error):
                raise
            self._lost = True
            _wait_for_a_stop()
            late = "timed out" in str(error).lower() or "timeout" in str(error).lower()
            what = f"has not answered for {self.timeout:g} seconds" if late else "is gone"
            raise ProcessError(
                f"another process of this run {what}; what it printed last should say why. The run "
                "can go on from its last checkpoint, in any number of processes"
            ) from error

    def _part(self) -> None:
        if dist.is_initialized() and not self._lost:  # which would wait for the one that is gone
            dist.destroy_process_group()


def _wait_for_a_stop(seconds: float = 1.0) -> None:
    """Let a Ctrl-C through that was meant for all, and of which another process heard first."""
    try:
        time.sleep(seconds)
    except KeyboardInterrupt as stop:
        if "SIGTERM" not in stop.args:  # by which torchrun ends the others when one has died
            raise


def _of_the_backend(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        word in text for word in ("gloo", "nccl", "connection", "timed out", "broken pipe")
    )


@contextmanager
def _synchronised(model: nn.Module) -> Iterator[None]:
    """Batch norm over all processes within the block: another forward on the same modules."""
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    norms = [(m, type(m)) for m in model.modules() if type(m) in plain]
    try:
        for module, _ in norms:
            module.__class__ = nn.SyncBatchNorm
            module.process_group = None  # type: ignore[assignment]
        yield
    finally:
        for module, kind in norms:
            module.__class__ = kind
            del module.process_group
