"""Cases from a list: a CSV or JSON file with image, label, group and id."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg import formats
from medseg.core.case import Case, Source
from medseg.core.errors import FormatError, UsageError
from medseg.data.dataset import Problem
from medseg.data.names import flat_id, stem
from medseg.data.pairs import Found

_IMAGE = re.compile(r"image_?(\d*)")
_KNOWN = ("label", "group", "id")
Row = Mapping[str, Any]


def is_list(path: Path) -> bool:
    """Whether the file is a list of cases: a CSV with an `image` column or such JSON."""
    try:
        return bool(_images_of(_rows(path)[0]))
    except (UsageError, IndexError):
        return False


def find_by_list(path: Path, channels: tuple[str, ...]) -> Found:
    """The cases that a list names; its paths are relative to the list's own folder.

    Columns: `image` (or `image1`, `image2` …, or one per channel of the task, by its name),
    `label` (may be empty), `group` and `id` (both optional).
    Raises UsageError where the file is no such list.
    """
    rows = _rows(path)
    if not rows or not any(_images_of(row, channels) for row in rows):
        raise UsageError(f"{path}: a list of cases needs an image column (and label, group, id where there are any)")
    problems: list[Problem] = []
    cases: dict[str, Case] = {}
    for row in rows:
        images = _images_of(row, channels)
        if not images:
            problems.append(Problem(str(row.get("id") or "?"), "missing-file", f"{path}: a row has no image"))
            continue
        name = flat_id(str(row.get("id") or stem(Path(images[0]))))
        if name in cases:
            text = f"{path}: two rows have this id; give every row its own in an id column"
            problems.append(Problem(name, "duplicate-id", text))
            continue
        case = _case(path.parent, name, row, images, problems)
        if case is not None:
            cases[name] = case
    problems += _channel_problems(path, cases, len(channels))
    broken = {problem.case for problem in problems}
    kept = tuple(case for case in cases.values() if case.id not in broken)
    return Found(f"the list {path.name}", kept, tuple(problems))


def _case(folder: Path, name: str, row: Row, images: list[str], problems: list[Problem]) -> Case | None:
    sources: list[Source] = []
    label = str(row.get("label") or "").strip()
    for given in [*images, *([label] if label else [])]:
        file = folder / given
        if not file.exists():
            problems.append(Problem(name, "missing-file", f"{file}: there is no such file"))
            continue
        try:
            sources.append(formats.source_of(file))
        except FormatError as error:
            problems.append(Problem.of(name, error))
    if len(sources) != len(images) + bool(label):
        return None
    group = flat_id(str(row.get("group") or ""))
    return Case(name, group, tuple(sources[: len(images)]), sources[-1] if label else None)


def _channel_problems(path: Path, cases: Mapping[str, Case], channels: int) -> list[Problem]:
    return [
        Problem(case.id, "wrong-channels", f"{path}: {len(case.images)} images are listed, but the task has {channels}")
        for case in cases.values()
        if channels and len(case.images) not in (1, channels)
    ]


def _images_of(row: Row, channels: tuple[str, ...] = ()) -> list[str]:
    numbered: dict[int, Any] = {}
    for key, value in row.items():
        match = _IMAGE.fullmatch(key)
        if match:
            numbered[int(match[1] or 0)] = value
    given = [numbered[number] for number in sorted(numbered)] or [row.get(channel.lower()) for channel in channels]
    flat = [item for value in given for item in (value if isinstance(value, list) else [value])]
    return [str(item).strip() for item in flat if item is not None and str(item).strip()]


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a list of cases ({error})") from error
    if path.suffix.lower() == ".json":
        return _json_rows(path, text)
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [{str(key).strip().lower(): value for key, value in row.items() if key is not None} for row in reader]


def _json_rows(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path}: is not valid JSON ({error})") from error
    rows = raw.get("cases") if isinstance(raw, dict) else raw
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: a JSON list of cases is [{{'image': …, 'label': …}}, …], or that under 'cases'")
    return [{str(key).lower(): value for key, value in row.items()} for row in rows]
