"""The training loop, visible from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from medseg.core.errors import MedsegError, UsageError
from medseg.core.events import Listener, Progress
from medseg.core.plan import Plan, Schedule
from medseg.training import log
from medseg.training.batches import Batch, Batches
from medseg.training.checkpoint import Position, load_checkpoint, save_checkpoint
from medseg.training.losses import batch_loss, make_loss
from medseg.training.schedule import Clock, learning_rate
from medseg.training.team import Team, lost

CHECKPOINT = "checkpoint.safetensors"
MAX_GRADIENT_NORM = 12.0  # nnU-Net's

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One training: what to learn, from what, where, and who watches.

    validate: mean Dice of a state on the validation cases; resume: go on from folder/checkpoint; team:
    the processes that train together, each with a job of its own.
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
    team: Team
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
    Raises UsageError where there is no time for one step, MedsegError where the loss stops being a number,
    or a process of the team is lost.
    """
    schedule, team = job.plan.schedule, job.team
    network = job.network.to(job.batches.device).train()
    optimizer = make_optimizer(network, schedule)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()} if schedule.ema else None
    run = _Run(job, network, optimizer, average)
    position = run.begin()
    shared = team.shared(network)
    loss_function = make_loss(schedule, job.class_weights).to(job.batches.device)
    step, validated = position.step, position.progress
    with _repeatable():
        while (progress := team.agree(job.clock.progress(step))) < 1.0:
            rate = learning_rate(schedule, progress)
            for group in optimizer.param_groups:
                group["lr"] = rate
            try:
                loss = _gradients(job, shared, loss_function, step)
            except RuntimeError as error:
                if team.size == 1:
                    raise
                raise lost() from error
            torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            if average is not None:
                _move_average(average, network.state_dict(), min(schedule.ema, (1 + step) / (10 + step)))
            run.pending.append((step, progress, rate, loss))
            step += 1
            if step % schedule.epoch_steps == 0:
                due = _validation_due(schedule, validated, progress)
                validated = progress if due else validated
                run.close_epoch(step, progress, validate=due)
        if run.pending:
            run.close_epoch(step, 1.0)
    if step == 0:
        raise UsageError("the time was used up before the first step; give the training more of it")
    run.save(step, 1.0)
    return Fitted(run.weights(), step, len(run.epochs))


def _gradients(job: Job, network: torch.nn.Module, loss_function: torch.nn.Module, step: int) -> torch.Tensor:
    """Fill the gradients of this step and give its loss, both the mean over the batches this process answers for."""
    team, device, parts = job.team, job.batches.device, job.plan.schedule.accumulate
    own = range(team.rank, parts, team.size)
    network.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device)
    for part in own:
        batch = job.batches(step, part)
        # Gradients are exchanged once a step, with the last of its batches.
        alone = team.size > 1 and part != own[-1]
        with network.no_sync() if alone else nullcontext():  # type: ignore[operator]  # DistributedDataParallel's own
            total += add_gradients(network, loss_function, batch, job.precision, 1 / len(own))
    return total


def add_gradients(
    network: torch.nn.Module, loss_function: torch.nn.Module, batch: Batch, precision: torch.dtype, share: float = 1.0
) -> torch.Tensor:
    """Add `share` of this batch's gradients to the network's; returns as much of its loss."""
    with torch.autocast(batch.images.device.type, dtype=precision, enabled=precision != torch.float32):
        outputs = network(batch.images)
    loss: torch.Tensor = batch_loss(loss_function, outputs, batch) * share
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward without types
    return loss.detach()


class _Run:
    """What a training has written down: steps, epochs, checkpoints; only a team's leader writes."""

    def __init__(
        self, job: Job, network: torch.nn.Module, optimizer: torch.optim.Optimizer, average: State | None
    ) -> None:
        self.job, self.network, self.optimizer, self.average = job, network, optimizer, average
        self.epochs: list[log.EpochRecord] = []
        self.pending: list[tuple[int, float, float, torch.Tensor]] = []
        self.saved = time.monotonic()

    def begin(self) -> Position:
        """Where to go on from; a run killed before its first checkpoint starts at step 0 again."""
        job, checkpoint = self.job, self.job.folder / CHECKPOINT
        position = Position(0, 0.0, 0.0)
        if job.resume and checkpoint.exists():
            position = load_checkpoint(checkpoint, self.network, self.average, self.optimizer)
            self.epochs = log.read_epochs(job.folder)[: math.ceil(position.step / job.plan.schedule.epoch_steps)]
        if job.team.leads and position.step:
            log.keep_steps(job.folder, position.step)
        elif job.team.leads:
            (job.folder / log.STEPS).unlink(missing_ok=True)
        job.clock.used += position.seconds
        job.clock.floor = position.progress
        return position

    def close_epoch(self, step: int, progress: float, *, validate: bool = False) -> None:
        """Write the steps since the last epoch and a line about them; only here the loop waits for the device."""
        job = self.job
        losses = job.team.mean(torch.stack([loss for *_, loss in self.pending]))
        records = [
            log.StepRecord(number, at, rate, float(loss))
            for (number, at, rate, _), loss in zip(self.pending, losses.cpu(), strict=True)
        ]
        self.pending.clear()
        if not all(math.isfinite(record.loss) for record in records):
            raise MedsegError(
                f"the loss is no number any more after step {records[-1].step}; lower schedule.learning_rate"
            )
        if not job.team.leads:
            return
        log.append_steps(job.folder, records)
        mean_loss = sum(record.loss for record in records) / len(records)
        dice = job.validate(self.weights()) if validate else None
        rate, seconds = records[-1].learning_rate, job.clock.elapsed()
        self.epochs.append(log.EpochRecord(step, len(self.epochs) + 1, seconds, progress, rate, mean_loss, dice))
        log.write_epochs(job.folder, self.epochs)
        _announce(job, self.epochs)
        if time.monotonic() - self.saved >= job.plan.schedule.checkpoint_seconds:
            self.save(step, progress)

    def save(self, step: int, progress: float) -> None:
        """Write a checkpoint from which `begin` goes on with step number `step`."""
        if self.job.team.leads:
            position = Position(step, self.job.clock.elapsed(), progress)
            save_checkpoint(self.job.folder / CHECKPOINT, self.network, self.average, self.optimizer, position)
            self.saved = time.monotonic()

    def weights(self) -> State:
        """The moving average of the weights where the plan asks for one, else the weights."""
        if self.average is not None:
            return self.average
        return {name: value.detach() for name, value in self.network.state_dict().items()}


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


def _move_average(average: State, state: State, decay: float) -> None:
    for name, value in average.items():
        if value.is_floating_point():
            value.lerp_(state[name], 1 - decay)
        else:
            value.copy_(state[name])


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
