"""One optimiser step over several processes, with the arithmetic of one.

Every process builds the same global batch, a pure function of (seed, step), and computes every
n-th row of it. A mean over rows or tokens is then weighted by the share of them that lies here, so
that the mean over processes is the mean over the batch, however its rows fell; gradients follow.
What is given up is a batch of which a process never sees the rest: look-ups are cheap beside a
step. Alone, nothing here computes anything: the numbers are those of a plain loop to the last bit.
"""

import contextlib
import dataclasses
import os
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from dualvla.errors import UserError


def world() -> int:
    """Processes of this training run; 1 before a process group exists."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, as launched; 0 writes files and shows progress."""
    if distributed.is_initialized():
        return distributed.get_rank()
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1  # a stray RANK alone says nothing
    return int(os.environ.get("RANK", "0")) if launched else 0


def device() -> torch.device:
    """Where this process computes."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def main_first() -> contextlib.AbstractContextManager[Any]:
    """A block that process 0 runs before the others, who then find what it left in a cache."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return contextlib.nullcontext()
    from accelerate import PartialState

    return PartialState(cpu=device().type == "cpu").main_process_first()


def require_kept_activations(what: str) -> None:
    """Raise a `UserError` under a launch that recomputes activations (accelerate's FSDP)."""
    if os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "").lower() in ("1", "true"):
        fix = "set fsdp_activation_checkpointing: false in the launch configuration"
        where = "fsdp_activation_checkpointing"
        raise UserError(f"{what} cannot train with recomputed activations", where=where, fix=fix)


def total(count: int, where: torch.device) -> int:
    """Sum of a count over the processes; tensors of the exchange lie on `where`."""
    if world() == 1:
        return count
    counts = torch.tensor(count, device=where)
    distributed.all_reduce(counts)
    return int(counts)


def weighted(mean: Tensor, count: int) -> Tensor:
    """A mean over `count` items here, so scaled that its mean over processes is that of all items.

    Every process must call it, with 0 items too: what it passes then is not looked at. 0 if there
    are none at all.
    """
    if world() == 1:
        return mean if count else mean.new_zeros(())
    everywhere = total(count, mean.device)
    return mean * (count * world() / everywhere) if count else mean.new_zeros(())


def variance(rows: Tensor) -> Tensor:
    """Population variance over the rows (N, ...) of all processes, of which this has N."""
    if world() == 1:
        return rows.var(0, unbiased=False)
    count = total(len(rows), rows.device)
    mean = rows.sum(0)
    distributed.all_reduce(mean)
    squares = (rows - mean / count).square().sum(0)
    distributed.all_reduce(squares)
    return squares / count


def reduced(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means over the processes of scalars that `weighted` scaled, detached."""
    values = {name: value.detach() for name, value in losses.items()}
    if world() == 1:
        return values
    stacked = torch.stack([value.float() for value in values.values()])
    distributed.all_reduce(stacked)
    return dict(zip(values, (stacked / world()).unbind(), strict=True))


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may hold a piece (FSDP); then every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor laid out over the processes as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def unshard(wrapped: nn.Module) -> None:
    """Give a trained module's parts their whole parameters back, in place; it trains no more."""
    if not isinstance(wrapped, FSDPModule):
        return
    wrapped.reshard()
    full = {p: nn.Parameter(whole(p.detach()), p.requires_grad) for p in wrapped.parameters()}
    for module in wrapped.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            module._parameters[name] = full[parameter]


def share(batch: Any) -> Any:
    """The rows of a global batch that are this process's, where it computes.

    Args:
        batch: a tensor, a tuple or a dataclass of them. The first tensor has a row for each row of
            the batch; every other one too, or else one for each of its `robots`, which come first.

    Raises:
        UserError: fewer rows than processes.
    """
    if world() == 1:
        return placed(batch)
    rows = len(_first(batch))
    if rows < world():
        what = f"a batch of {rows} rows for {world()} processes"
        raise UserError(what, where="batch_size", fix="raise it, or launch fewer processes")
    robots = getattr(batch, "robots", rows)
    own = torch.arange(rank(), rows, world())
    chosen = {robots: own[own < robots], rows: own}
    return _chosen(batch, chosen)


def _first(batch: Any) -> Tensor:
    while not isinstance(batch, Tensor):
        batch = getattr(batch, dataclasses.fields(batch)[0].name) if _is_data(batch) else batch[0]
    return batch


def _is_data(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _mapped(value: Any, function: Any) -> Any:
    """`value` with `function` applied to each of its tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple):
        return tuple(_mapped(part, function) for part in value)
    if _is_data(value):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(
            value, **{n: _mapped(getattr(value, n), function) for n in names}
        )
    return value


def placed(batch: Any) -> Any:
    """A batch where this process computes."""
    where = device()
    return batch if where.type == "cpu" else _mapped(batch, lambda tensor: tensor.to(where))


def _chosen(batch: Any, rows: dict[int, Tensor]) -> Any:
    part = placed(_mapped(batch, lambda tensor: tensor[rows[len(tensor)]]))
    if not hasattr(batch, "robots"):
        return part
    return dataclasses.replace(part, robots=len(rows[batch.robots]))
