"""The processes that train one model together, started by torchrun; a process on its own is a team of one.

torchrun tells each process its place in the environment (RANK, WORLD_SIZE, LOCAL_RANK); nothing else
is read from there. The first process leads: it prepares, keeps time, validates, writes and scores.
The others compute gradients.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from medseg.core.errors import MedsegError


@dataclass(frozen=True, slots=True)
class Team:
    """This process's place (rank, from 0) among `size` processes; device is its own."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and decides."""
        return self.rank == 0

    def share(self, text: str = "") -> str:
        """The leader's text, in every process."""
        if self.size == 1:
            return text
        raw = text.encode()
        with _together():
            length = torch.tensor([len(raw)], device=self.device)
            dist.broadcast(length, 0)
            sent = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
            if self.leads:
                sent.copy_(torch.frombuffer(bytearray(raw), dtype=torch.uint8))
            dist.broadcast(sent, 0)
        return bytes(sent.cpu().tolist()).decode()

    def agree(self, value: float) -> float:
        """The leader's figure, in every process."""
        if self.size == 1:
            return value
        with _together():
            sent = torch.tensor([value], dtype=torch.float64, device=self.device)
            dist.broadcast(sent, 0)
        return float(sent)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over all processes, element by element."""
        if self.size == 1:
            return values
        with _together():
            total = values.clone()
            dist.all_reduce(total)
        return total / self.size

    def shared(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network with gradients averaged over all processes; it starts from the leader's weights.

        On GPUs batch normalisation is over all processes too (torch has no such thing for CPUs).
        """
        if self.size == 1:
            return network
        if self.device.type != "cuda":
            return torch.nn.parallel.DistributedDataParallel(network)
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]  # torch's
        return torch.nn.parallel.DistributedDataParallel(network, device_ids=[self.device.index])


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch.distributed raises when the other end is gone
        raise lost() from error


def lost() -> MedsegError:
    """What to say when another process of the team is gone."""
    return MedsegError(
        "another process of this training ended before its time; see what it said, then go on with --resume"
    )


def called() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def assembled(device: torch.device) -> Iterator[Team]:
    """The team that torchrun started this process for, or a team of one on `device`.

    On GPUs each process takes the one that torchrun counts out for it.
    """
    if not called():
        yield Team(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(device, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
