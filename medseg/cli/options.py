"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from medseg.core.errors import UsageError
from medseg.core.machine import Preset as PresetName

DEBUG = "medseg.debug"


def _remember(context: typer.Context, asked: bool) -> bool:
    if asked:
        context.meta[DEBUG] = True
    return asked


Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show the traceback when something fails.", callback=_remember, is_eager=True),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout (progress goes to stderr).")]
KeepIdentifiers = Annotated[
    bool,
    typer.Option(
        "--keep-identifiers", help="Leave patients' names and ids, as DICOM headers tell them, in file names."
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="Where to compute: auto, cpu or cuda.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Folder of labelled cases (default: the task's own data).")
]
Task = Annotated[
    str | None, typer.Option("--task", "-t", metavar="NAME", help="A task's name (see 'medseg tasks') or its file.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the plan, e.g. schedule.learning_rate=0.002."),
]
Preset = Annotated[
    PresetName | None,
    typer.Option("--preset", help="How large a network to take (default: what the time budget suits)."),
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        metavar="GLOB",
        help="Pattern of the images below --data, with {case} and perhaps {group}; once per channel.",
    ),
]
Labels = Annotated[
    str | None, typer.Option("--labels", metavar="GLOB", help="Pattern of the label maps below --data, with {case}.")
]
Group = Annotated[
    str | None,
    typer.Option("--group", metavar="REGEX", help="Its first (…) group, found in the case's name, is the patient."),
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="LABEL=VALUES", help="Values in the files that mean a label: 'left lung=10,11'."),
]
Undeclared = Annotated[
    str | None,
    typer.Option("--undeclared", metavar="WHAT", help="Values that no label names: refuse, background or ignore."),
]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave broken cases out (they are named) instead of stopping.")
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of every random draw.")]


def key_values(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """'key=value' texts as a dict. Raises UsageError naming the option and the text that has no '='."""
    pairs: dict[str, str] = {}
    for text in given or ():
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise UsageError(f"{option} {text!r}: write it as key=value")
        pairs[key.strip()] = value.strip()
    return pairs


def label_map(given: Sequence[str] | None, option: str = "--map") -> dict[str, tuple[int, ...]]:
    """'label=1,2' texts as {label: values}. Raises UsageError for anything else."""
    return {key: _values(option, key, text) for key, text in key_values(given, option).items()}


def _values(option: str, label: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} '{label}={text}': write the values as whole numbers: '{label}=10,11'") from None


def duration(text: str | None, option: str) -> float | None:
    """Seconds in '90s', '10m' or '1h30m'; None stays None. Raises UsageError."""
    if text is None:
        return None
    from medseg.core.task import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def size(text: str | None, option: str) -> int | None:
    """Bytes in '512M', '4G' or '1.5GB'; None stays None. Raises UsageError."""
    if text is None:
        return None
    import re

    match = re.fullmatch(r"\s*([\d.]+)\s*([KMGT])i?B?\s*", text, re.IGNORECASE)
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    if match is None or not number > 0:
        raise UsageError(f"{option}: {text!r} is not a size; write 512M or 4G")
    return int(number * 1024 ** (1 + "KMGT".index(match[2].upper())))
