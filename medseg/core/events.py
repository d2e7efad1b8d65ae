"""What a workflow tells its listener while it runs; the CLI renders these, scripts may log them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units of `stage` are finished.

    `fraction` overrides done/total where the two differ (a time-budgeted training); `values` are
    the figures worth showing (loss, validation Dice); `seconds_left` is None while unknown.
    """

    stage: str
    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    seconds_left: float | None = None
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One sentence for the user; `level` is info, warning or error."""

    text: str
    level: str = "info"


Event = Progress | Message
Listener = Callable[[Event], None]


def silent(_: Event) -> None:
    """The listener of those who do not listen."""
