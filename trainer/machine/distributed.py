"""Data-parallel training: each process takes its share of every batch; all get the same weights.

With the same global batch the weights are those of one process within rounding: gradients are
weighted by the number of images that they come from, and BatchNorm sees the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Group", "is_launched", "is_restarted", "process_group"]


@dataclass
class Group:
    """The processes of a run; a group of one exchanges nothing.

    Attributes:
        rank: The number of this process; process 0 writes the files.
        size: The number of processes.
        share: The share of the current batch that this process has, 0 to 1.
    """

    rank: int = 0
    size: int = 1
    share: float = 1.0

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:  # noqa: FBT001 - like the builtin
        """Return, in every process, whether the flag is true in any of them."""
        if self.size == 1:
            return flag
        flags = torch.tensor([int(flag)], device=_device())
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def gather(self, value: Any) -> list[Any]:
        """Return, in every process, the values of all processes by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    @contextmanager
    def first_rank_first(self) -> Iterator[None]:
        """Let rank 0 finish the body before the other processes begin it."""
        if not self.is_first:
            self.gather(None)
        try:
            yield
        finally:
            if self.is_first:
                self.gather(None)

    @contextmanager
    def data_parallel(self, net: nn.Module) -> Iterator[nn.Module]:
        """Yield a module whose gradients and BatchNorm statistics are those of the whole batch."""
        if self.size == 1:
            yield net
            return
        with ExitStack() as stack:
            for norm in net.modules():
                if isinstance(norm, _BatchNorm):
                    norm.forward = partial(_whole_batch_norm, self, norm)  # type: ignore[method-assign]
                    stack.callback(delattr, norm, "forward")
            parallel = DistributedDataParallel(net, forward_sync_buffers=False)
            parallel.register_comm_hook(None, _sum_gradients)
            parallel.register_forward_hook(self._weight_gradients)
            yield parallel

    def _weight_gradients(self, _net: nn.Module, _given: Any, out: Any) -> None:
        """Weight the gradients by this process's share of the batch.

        This is done at the net's output, before BatchNorm mixes the gradients of the processes:
        later, those that come from other processes would get this one's weight.
        """
        if isinstance(out, Tensor) and out.requires_grad:
            out.register_hook(lambda gradient, share=self.share: gradient * share)  # type: ignore[no-untyped-call]


def is_launched() -> bool:
    """Return whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_restarted() -> bool:
    """Return whether torchrun has restarted the processes after one of them died."""
    return _restarts() > 0


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextmanager
def process_group(device: str) -> Iterator[Group]:
    """Join the processes that torchrun started; without torchrun, yield a group of one.

    Args:
        device: "cpu" (gloo) or "cuda" (nccl; each process uses the GPU of its local rank).
    """
    if not is_launched():
        yield Group()
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(rendezvous("env://"))
    # torchrun's store outlives a restart: without a new prefix the processes would find the
    # addresses of the processes that died, and wait for them.
    attempt = PrefixStore(f"attempt-{_restarts()}", store)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=size)
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


def _sum_gradients(_state, bucket):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - see below
    """Sum gradients over the processes, which have weighted them.

    It has no annotations because DDP compares them with its classes; in this file they are strings.
    """
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda finished: finished.value()[0])


def _whole_batch_norm(group: Group, norm: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise by the mean and variance of the whole batch, as BatchNorm does in one process."""
    if not norm.training:
        return type(norm).forward(norm, x)
    dims = [dim for dim in range(x.ndim) if dim != 1]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    wide = x.float()
    mean = _sum_over_processes(wide.mean(dims) * group.share)
    centred = wide - mean.view(shape)
    variance = _sum_over_processes(centred.square().mean(dims) * group.share)
    count = x.numel() / x.shape[1] / max(group.share, 1e-9)
    _update_running_statistics(group, norm, mean.detach(), variance.detach(), count)
    normal = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        normal = normal * norm.weight.view(shape) + norm.bias.view(shape)
    return normal.to(x.dtype)


def _update_running_statistics(
    group: Group, norm: _BatchNorm, mean: Tensor, variance: Tensor, count: float
) -> None:
    """Update the running statistics as BatchNorm does, with the unbiased variance."""
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:
        momentum = 1 / float(norm.num_batches_tracked)
    whole = max(group.gather(count if group.share else 0.0))
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * whole / max(whole - 1, 1), momentum)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Any) -> Any:
        return _Sum.forward(_ctx, gradients[0])


def _sum_over_processes(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)
    return total
