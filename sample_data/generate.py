"""Writes sample_data/ anew: `python sample_data/generate.py [FOLDER]` (about a minute)."""

from __future__ import annotations

import sys
from pathlib import Path

from medseg.core.events import Event, Message, Progress
from medseg.phantoms import write_samples


def _tell(event: Event) -> None:
    if isinstance(event, Progress):
        sys.stdout.write(f"\r{event.stage} {event.done}/{event.total}")
    elif isinstance(event, Message):
        sys.stdout.write(f"\n{event.text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent, _tell)
