"""Who trains, who validates, who tests: patient-grouped, seeded, the same on every machine."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from medseg.core.case import Case
from medseg.core.errors import DataError, UsageError

_LISTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """Case ids of each part, sorted; `notes` are sentences worth showing (fewer folds than asked for)."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def make_split(cases: Sequence[Case], folds: int, fold: int, seed: int) -> Split:
    """Fold `fold` (0 … folds - 1) of a k-fold split that never cuts through a group.

    Which fold a group falls into depends on the seed and on which cases there are, not on their
    order. With fewer groups than folds there are as many folds as groups, and a note says so.
    Raises UsageError where there is one group only, or no such fold.
    """
    groups = _groups(cases)
    if len(groups) < 2:
        who = f"{len(cases)} case{'s' * (len(cases) != 1)} of one patient" if cases else "no cases"
        raise UsageError(
            f"there are {who}, but at least two patients are needed: one to learn from and one to validate on; "
            "add cases, or name the parts in a split file (--split)"
        )
    count = folds
    notes: tuple[str, ...] = ()
    if len(groups) < folds:
        count = len(groups)
        notes = (f"there are {len(groups)} patients only, so there are {count} folds instead of {folds}",)
    if not 0 <= fold < count:
        raise UsageError(f"fold {fold} does not exist: the folds are 0 to {count - 1}")
    validation = set(_assign(groups, count, seed)[fold])
    return Split(
        train=tuple(sorted(case.id for case in cases if case.group not in validation)),
        validation=tuple(sorted(case.id for case in cases if case.group in validation)),
        notes=notes,
    )


def read_split(path: Path, cases: Sequence[Case], seed: int = 0) -> Split:
    """The split in a JSON file with lists `train`, `validation` and `test` of case ids.

    Without a validation list, where cases are tested, all training cases are learnt from and none validates:
    nothing is chosen by validation, and labels are few. Without either list a fifth of the training patients (at
    least one) validates, as something has to be scored.
    Raises UsageError where the file is no such JSON, DataError naming every unknown id, every id in
    two lists and every group that is cut through.
    """
    lists = split_lists(path)
    problems = _split_problems(lists, cases)
    if problems:
        raise DataError(f"{path}: this split cannot be used", problems)
    if lists["validation"] or lists["test"]:
        return Split(**{name: tuple(sorted(set(ids))) for name, ids in lists.items()})
    chosen = set(lists["train"])
    inner = make_split([case for case in cases if case.id in chosen], 5, 0, seed)
    note = f"{path} names no cases to validate or test, so {len(inner.validation)} of its training cases validate"
    return Split(inner.train, inner.validation, (), (note,))


def _groups(cases: Sequence[Case]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for case in cases:
        groups[case.group].append(case.id)
    return dict(groups)


def _assign(groups: Mapping[str, Sequence[str]], folds: int, seed: int) -> list[list[str]]:
    """Groups in an order drawn by hashing, each to the fold that holds the fewest cases so far."""
    drawn = sorted(groups, key=lambda group: sha256(f"{seed}:{group}".encode()).digest())
    parts: list[list[str]] = [[] for _ in range(folds)]
    sizes = [0] * folds
    for group in drawn:
        smallest = sizes.index(min(sizes))
        parts[smallest].append(group)
        sizes[smallest] += len(groups[group])
    return parts


def split_lists(path: Path) -> dict[str, list[str]]:
    """The lists train, validation and test of case ids in a split file, as they stand there.

    Raises UsageError where the file is missing or no split file.
    """
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such split file") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: is not a JSON file that can be read ({error})") from error
    wanted = "a split file is {'train': [ids], 'validation': [ids], 'test': [ids]}"
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: {wanted}")
    unknown = sorted(set(raw) - set(_LISTS))
    if unknown:
        raise UsageError(f"{path}: unknown key {unknown[0]!r}; {wanted}")
    lists = {name: raw.get(name, []) for name in _LISTS}
    for name, ids in lists.items():
        if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
            raise UsageError(f"{path}: {name} must be a list of case ids; {wanted}")
    if not lists["train"]:
        raise UsageError(f"{path}: names no training cases; {wanted}")
    return lists


def _split_problems(lists: Mapping[str, Sequence[str]], cases: Sequence[Case]) -> list[str]:
    group_of = {case.id: case.group for case in cases}
    problems = [
        f"{name}: there is no labelled case {item!r}"
        for name, ids in lists.items()
        for item in ids
        if item not in group_of
    ]
    places: defaultdict[str, list[str]] = defaultdict(list)
    lists_of_group: defaultdict[str, set[str]] = defaultdict(set)
    for name, ids in lists.items():
        for item in sorted(set(ids)):
            places[item].append(name)
            if item in group_of:
                lists_of_group[group_of[item]].add(name)
    problems += [f"{item!r} is in {' and '.join(names)}" for item, names in places.items() if len(names) > 1]
    doubled = {group_of.get(item) for item, names in places.items() if len(names) > 1}
    problems += [
        f"patient {group!r} is cut through: its cases are in {' and '.join(sorted(names))}"
        for group, names in lists_of_group.items()
        if len(names) > 1 and group not in doubled
    ]
    return problems
