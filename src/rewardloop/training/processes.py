"""One process or many: the model on its device, replicated or sharded, through ``accelerate``.

In: a module and the training settings; how many processes there are is in the environment that a launcher made. Out:
the prepared module and optimizer, and the few operations that processes do together.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin, broadcast_object_list, gather_object
from torch import Tensor, nn

from rewardloop.config import TrainingSettings

_T = TypeVar("_T")
_BUCKET = 1 << 24
"""Numbers that are summed over processes at once: fewer messages, and little memory."""


class Alone:
    """One process: what several do together is nothing."""

    count = 1
    rank = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return True

    def total(self, *values: float) -> list[float]:
        """Sums over all processes."""
        return list(values)

    def gather(self, value: _T) -> list[_T]:
        """One value of each process, by rank, in every process."""
        return [value]

    def sum_up(self, tensors: Iterable[Tensor]) -> None:
        """Put the sums over all processes into float32 ``tensors``, which have equal shapes everywhere."""

    def take_firsts(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` with those of the first process."""

    def agree(self, value: _T) -> _T:
        """The value that the first process has: where a decision must not differ by a rounded bit."""
        return value

    def wait(self) -> None:
        """Until all are here."""


class Processes(Alone):
    """What the processes of one training do together; where there is only one, most of it is nothing."""

    def __init__(self, settings: TrainingSettings | None = None, *, cpu: bool = False) -> None:
        """``settings`` say how weights are spread, None: not at all; ``cpu``: also where there is a GPU."""
        cpu = cpu or not torch.cuda.is_available()
        plain = Accelerator(cpu=cpu)
        self.sharded = settings is not None and settings.sharding == "fsdp" and plain.num_processes > 1
        # Autocast is ours: accelerate's would be a state of the whole process, which a second training may not change.
        self.accelerator = Accelerator(cpu=cpu, fsdp_plugin=_sharding()) if self.sharded else plain
        self.count = self.accelerator.num_processes
        self.rank = self.accelerator.process_index
        self.device: torch.device = self.accelerator.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return bool(self.accelerator.is_main_process)

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """Put ``module`` on its device and spread it as configured."""
        if self.count == 1:
            return module.to(self.device), optimizer
        prepared: tuple[Any, Any] = self.accelerator.prepare(module, optimizer)
        return prepared

    def no_sync(self, module: Any) -> AbstractContextManager[Any]:
        """Keep gradients apart until the step's last batch."""
        context: AbstractContextManager[Any] = self.accelerator.no_sync(module)
        return context

    def clip(self, module: Any, at_most: float) -> float:
        """Clip the gradients of all trained weights together; returns their norm before."""
        return float(self.accelerator.clip_grad_norm_([*module.parameters()], at_most))

    def total(self, *values: float) -> list[float]:
        """Sums over all processes."""
        if self.count == 1:
            return list(values)
        summed: Tensor = self.accelerator.reduce(
            torch.tensor(values, dtype=torch.float64, device=self.device), reduction="sum"
        )
        return [float(value) for value in summed]

    def gather(self, value: _T) -> list[_T]:
        """One value of each process, by rank, in every process."""
        return [value] if self.count == 1 else list(gather_object([value]))

    def sum_up(self, tensors: Iterable[Tensor]) -> None:
        """Put the sums over all processes into float32 ``tensors``, which have equal shapes everywhere."""
        bucket: list[Tensor] = []
        for tensor in tensors:
            bucket.append(tensor)
            if sum(one.numel() for one in bucket) >= _BUCKET:
                self._sum_bucket(bucket)
                bucket = []
        self._sum_bucket(bucket)

    def _sum_bucket(self, bucket: list[Tensor]) -> None:
        if not bucket:
            return
        flat = torch.cat([tensor.detach().reshape(-1).to(self.device, torch.float32) for tensor in bucket])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def take_firsts(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` with those of the first process."""
        for tensor in tensors:
            torch.distributed.broadcast(tensor.detach(), 0)

    def agree(self, value: _T) -> _T:
        """The value that the first process has: where a decision must not differ by a rounded bit."""
        [agreed] = broadcast_object_list([value])
        return cast(_T, agreed)

    def wait(self) -> None:
        """Until all are here."""
        self.accelerator.wait_for_everyone()


def _sharding() -> FullyShardedDataParallelPlugin:
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="transformer_based_wrap",
        # Every process reads the base itself, so there is nothing to send around.
        cpu_ram_efficient_loading=False,
        state_dict_type="FULL_STATE_DICT",
    )
