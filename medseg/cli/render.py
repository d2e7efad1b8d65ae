"""What a person sees while a workflow runs, and the tables at its end.

Progress always goes to stderr, so that stdout holds results only (and nothing but JSON with --json).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any

from medseg.core.events import Event, Listener, Message, Progress

_EVERY_SECONDS = 10.0  # a plain progress line appears this often …
_EVERY_FRACTION = 0.1  # … or at each of these steps, but
_AT_MOST_SECONDS = 1.0  # never more often than this


@contextmanager
def progress() -> Iterator[Listener]:
    """A listener that draws on stderr: bars on a terminal, few plain lines in a log file."""
    if not sys.stderr.isatty():
        yield PlainProgress(sys.stderr)
        return
    with TerminalProgress() as listener:
        yield listener


class PlainProgress:
    """One line when a stage starts and ends, and at most one every ten seconds or ten percent."""

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._stage = ""
        self._printed_at = 0.0
        self._printed_fraction = 0.0
        self._finished = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message):
            self._print(message_line(event))
            return
        now, fraction = self._clock(), fraction_done(event)
        if not self._due(event, now, fraction):
            return
        self._stage, self._printed_at, self._printed_fraction = event.stage, now, fraction
        self._finished = fraction >= 1.0
        self._print(progress_line(event))

    def _due(self, event: Progress, now: float, fraction: float) -> bool:
        if event.stage != self._stage:
            return True
        if fraction >= 1.0:
            return not self._finished
        since = now - self._printed_at
        step = fraction - self._printed_fraction >= _EVERY_FRACTION
        return since >= _EVERY_SECONDS or (step and since >= _AT_MOST_SECONDS)

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class TerminalProgress:
    """A bar per stage, with its figures and the time left; messages scroll by above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TextColumn("{task.fields[figures]}", markup=False),
            console=Console(stderr=True),
        )
        self._stages: dict[str, Any] = {}

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message):
            style = {"warning": "yellow", "error": "red"}.get(event.level)
            self._bars.console.print(message_line(event), style=style, markup=False, highlight=False)
            return
        if event.stage not in self._stages:
            self._stages[event.stage] = self._bars.add_task(event.stage, total=1.0, figures="")
        self._bars.update(
            self._stages[event.stage], completed=fraction_done(event), figures="  ".join(figures_of(event))
        )


def fraction_done(event: Progress) -> float:
    """How much of the stage is finished, 0..1."""
    if event.fraction is not None:
        return min(1.0, max(0.0, event.fraction))
    return 1.0 if event.total <= 0 else min(1.0, max(0.0, event.done / event.total))


def figures_of(event: Progress) -> list[str]:
    """'12/250', 'loss 0.431', '2 min 10 s left': what stands beside a bar."""
    parts = [f"{event.done}/{event.total}"] if event.total > 1 else []
    parts += [f"{name.replace('_', ' ')} {value:.3g}" for name, value in event.values.items()]
    if event.seconds_left is not None and fraction_done(event) < 1.0:
        parts.append(f"{seconds_text(event.seconds_left)} left")
    return parts


def progress_line(event: Progress) -> str:
    """A stage's state as one plain line."""
    return "  ".join([f"{event.stage}: {100 * fraction_done(event):.0f} %", *figures_of(event)])


def message_line(event: Message) -> str:
    """A message as one plain line, its level in front where it is not mere information."""
    return event.text if event.level == "info" else f"{event.level}: {event.text}"


def seconds_text(seconds: float) -> str:
    """'45 s', '2 min 10 s' or '1 h 05 min'."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def print_json(value: Any) -> None:
    """JSON on stdout, without NaN (which is no JSON)."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout: rich on a terminal, aligned plain columns (nothing cut off) elsewhere."""
    cells = [[cell_text(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        print("\n".join(plain_table(columns, cells)))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table with aligned columns."""
    lines = [list(columns), *(list(row) for row in cells)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def cell_text(value: Any) -> str:
    """A table cell: '-' for nothing, three decimals for fractions."""
    if value is None or value == "":
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Names and values below each other on stdout."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        print(f"{name.ljust(width)}  {cell_text(value)}")


def print_next(commands: Sequence[str]) -> None:
    """The commands worth trying next."""
    print("\nNext:")
    for command in commands:
        print(f"  {command}")
