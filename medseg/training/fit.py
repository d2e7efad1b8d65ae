"""The training loop, visible from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from medseg.core.errors import MedsegError
from medseg.core.events import Listener, Progress
from medseg.core.plan import Plan, Schedule
from medseg.training import log
from medseg.training.batches import Batches
from medseg.training.checkpoint import Position, load_checkpoint, save_checkpoint
from medseg.training.losses import deep_supervised, make_loss
from medseg.training.schedule import Clock, learning_rate

CHECKPOINT = "checkpoint.safetensors"
_MAX_GRADIENT_NORM = 12.0  # nnU-Net's

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One training: what to learn, from what, where, and who watches.

    validate: mean Dice of a state on the validation cases; resume: go on from folder/checkpoint.
    """

    plan: Plan
    network: torch.nn.Module
    batches: Batches
    class_weights: torch.Tensor | None
    precision: torch.dtype
    clock: Clock
    folder: Path
    validate: Callable[[State], float | None]
    listener: Listener
    resume: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The weights at the end (their moving average where the plan asks for one) and how many steps made them."""

    state: State
    steps: int
    epochs: int


def fit(job: Job) -> Fitted:
    """Train until progress reaches 1 and return the last weights; writes steps.csv, training.csv, a checkpoint.

    The last weights are taken, never the best validation: the validation cases stay honest.
    Raises MedsegError where the loss stops being a number.
    """
    schedule, device = job.plan.schedule, job.batches.device
    network = job.network.to(device).train()
    optimizer = make_optimizer(network, schedule)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()} if schedule.ema else None
    loss_function = make_loss(schedule, job.class_weights).to(device)
    start = _begin(job, network, average, optimizer)
    epochs = log.read_epochs(job.folder)[: math.ceil(start.step / schedule.epoch_steps)] if job.resume else []
    pending: list[tuple[int, float, float, torch.Tensor]] = []
    validated, saved = start.progress, time.monotonic()
    step = start.step
    with _repeatable():
        while (progress := job.clock.progress(step)) < 1.0:
            rate = learning_rate(schedule, progress)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = job.batches(step)
            with torch.autocast(device.type, dtype=job.precision, enabled=job.precision != torch.float32):
                outputs = network(batch.images)
            outputs = outputs if isinstance(outputs, list) else [outputs]
            loss = deep_supervised(loss_function, outputs, batch.targets, batch.weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward without types
            torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
            optimizer.step()
            if average is not None:
                _move_average(average, network.state_dict(), min(schedule.ema, (1 + step) / (10 + step)))
            pending.append((step, progress, rate, loss.detach()))
            step += 1
            if step % schedule.epoch_steps:
                continue
            # Only here does the loop wait for the device and touch the disk.
            mean_loss = _write_steps(job.folder, pending)
            due = _validation_due(schedule, validated, progress)
            dice = job.validate(_weights(network, average)) if due else None
            validated = progress if due else validated
            epochs.append(log.EpochRecord(step, len(epochs) + 1, job.clock.elapsed(), progress, rate, mean_loss, dice))
            log.write_epochs(job.folder, epochs)
            _announce(job, epochs)
            if time.monotonic() - saved >= schedule.checkpoint_seconds:
                position = Position(step, job.clock.elapsed(), progress)
                save_checkpoint(job.folder / CHECKPOINT, network, average, optimizer, position)
                saved = time.monotonic()
        if pending:
            mean_loss = _write_steps(job.folder, pending)
            rate = optimizer.param_groups[0]["lr"]
            epochs.append(log.EpochRecord(step, len(epochs) + 1, job.clock.elapsed(), 1.0, rate, mean_loss))
            log.write_epochs(job.folder, epochs)
    save_checkpoint(job.folder / CHECKPOINT, network, average, optimizer, Position(step, job.clock.elapsed(), 1.0))
    return Fitted(_weights(network, average), step, len(epochs))


def make_optimizer(network: torch.nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum .99 (nnU-Net); norms and biases are not decayed."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=schedule.learning_rate, momentum=0.99, nesterov=True)
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, fused=True)


def class_frequencies(labels: Sequence[torch.Tensor], classes: int) -> list[float]:
    """Voxels of every class over the training cases; ignored voxels are not counted."""
    total = torch.zeros(classes, dtype=torch.float64)
    for label in labels:
        total += torch.bincount(label.flatten().cpu().long(), minlength=classes)[:classes].double()
    return [float(count) for count in total]


def _begin(job: Job, network: torch.nn.Module, average: State | None, optimizer: torch.optim.Optimizer) -> Position:
    """Where to go on from; a run killed before its first checkpoint starts at step 0 again."""
    checkpoint = job.folder / CHECKPOINT
    if job.resume and checkpoint.exists():
        position = load_checkpoint(checkpoint, network, average, optimizer)
        log.keep_steps(job.folder, position.step)
    else:
        position = Position(0, 0.0, 0.0)
        (job.folder / log.STEPS).unlink(missing_ok=True)
    job.clock.used += position.seconds
    job.clock.floor = position.progress
    return position


def _move_average(average: State, state: State, decay: float) -> None:
    for name, value in average.items():
        if value.is_floating_point():
            value.lerp_(state[name], 1 - decay)
        else:
            value.copy_(state[name])


def _weights(network: torch.nn.Module, average: State | None) -> State:
    return average if average is not None else {name: value.detach() for name, value in network.state_dict().items()}


def _write_steps(folder: Path, pending: list[tuple[int, float, float, torch.Tensor]]) -> float:
    losses = [float(value) for value in torch.stack([loss for *_, loss in pending]).cpu()]
    records = [
        log.StepRecord(step, progress, rate, loss)
        for (step, progress, rate, _), loss in zip(pending, losses, strict=True)
    ]
    if not all(math.isfinite(value) for value in losses):
        raise MedsegError(f"the loss is no number any more after step {records[-1].step}; lower schedule.learning_rate")
    log.append_steps(folder, records)
    pending.clear()
    return sum(losses) / len(losses)


def _validation_due(schedule: Schedule, last: float, progress: float) -> bool:
    """Whether a point k / (validations + 1) lies between the last validation and now."""
    parts = schedule.validations + 1
    return math.floor(progress * parts) > math.floor(last * parts)


def _announce(job: Job, epochs: Sequence[log.EpochRecord]) -> None:
    last = epochs[-1]
    values = {"epoch": float(last.epoch), "loss": last.loss}
    measured = [epoch.validation_dice for epoch in epochs if epoch.validation_dice is not None]
    if measured:
        values["validation Dice"] = measured[-1]
    progress = job.clock.progress(last.step)
    job.listener(Progress("train", last.step, job.clock.steps or 0, values, job.clock.seconds_left(progress), progress))


@contextmanager
def _repeatable() -> Iterator[None]:
    """Same seed, same machine, same weights: no autotuned kernels."""
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, deterministic
