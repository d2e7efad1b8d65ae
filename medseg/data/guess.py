"""What the names in a folder suggest: which files are images and label maps, and which cases are one patient's."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg import formats
from medseg.data.names import IMAGE_WORDS, LABEL_WORDS, flat_id, stem

_SMALLEST = 2  # cases that two patterns must share
_FEWEST_GROUPS = 3
_MOST_PATTERNS = 200  # of those that fit the most files

# Each finds the patient in a case's name. Tried in this order; one must fit every name.
_GROUPS = (
    r"^(.*\d)[_\- ]?(?:[LR]|left|right|OD|OS)$",
    r"^((?:.*[_\-])?(?:patient|pat|pid|subject|subj|sub|case|p)[_\-]?\d+)[_\-].+$",
    r"^(.*\d.*?)[_\-]+(?:slice|sl|s|z|frame|f|time|tp|t|visit|v|scan|image|img|tile|patch|roi|view|session|ses|run)[_\-]?\d+$",
    r"^(.*\d.*?)[_\-]+\d+$",
    r"^(.+?)__.+$",
)


def guess_patterns(root: Path) -> tuple[str, str] | None:
    """The images and labels patterns that pair the most files below `root`; None where no two pair.

    A labels pattern is told by a word such as mask, seg or label in it, or by being the image's
    name with something behind it.
    """
    candidates: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for source in formats.discover(root):
        path = source.path.relative_to(root).as_posix()
        for pattern, case in _patterns_of(path, source.path.is_dir()):
            candidates[pattern].setdefault(case, path)
    often = sorted(candidates.items(), key=lambda item: (-len(item[1]), item[0]))[:_MOST_PATTERNS]
    shared = {pattern: cases for pattern, cases in often if len(cases) >= _SMALLEST}
    best: tuple[tuple[int, ...], tuple[str, str]] | None = None
    for images, labels in _pairs(shared):
        count = len(shared[images].keys() & shared[labels].keys())
        if count < _SMALLEST:
            continue
        named = _words(labels) & set(LABEL_WORDS) != set()
        rank = (count, int(named), int(_bare(images) == _bare(labels)), -len(shared[images]), -len(images + labels))
        if best is None or (rank, (labels, images)) > (best[0], (best[1][1], best[1][0])):
            best = (rank, (images, labels))
    return None if best is None else best[1]


def guess_group(case_ids: Sequence[str]) -> str | None:
    """A regular expression whose first group names the patient of every case; None where each case has its own.

    It is one that fits all names, puts at least two cases together, and leaves enough groups to split.
    """
    for place, expression in enumerate(_GROUPS):
        matches = [re.search(expression, case_id) for case_id in case_ids]
        groups = {match[1] for match in matches if match}
        fewest = _SMALLEST if place == 0 else _FEWEST_GROUPS
        if all(matches) and fewest <= len(groups) < len(case_ids):
            return expression
    return None


def _patterns_of(path: str, is_folder: bool) -> Iterator[tuple[str, str]]:
    """Every (pattern, case) by which a path could be found: its folder or a part of its name is the case."""
    folder, _, name = path.rpartition("/")
    base = name if is_folder else stem(Path(name))
    extension = name[len(base) :]
    prefix = f"{folder}/" if folder else ""
    if folder:
        above, _, case = folder.rpartition("/")
        yield f"{'**/' if above else ''}{{case}}/{name}", case
    yield f"{prefix}{{case}}{extension}", base
    for cut in {match.start() for match in re.finditer(r"(?=[_\-. ])|(?<=[_\-. ])|(?<=[A-Za-z])(?=\d)", base)}:
        if base[:cut].strip("_-. ") == base[:cut] != "":
            yield f"{prefix}{{case}}{base[cut:]}{extension}", base[:cut]
        if base[cut:].strip("_-. ") == base[cut:] != "":
            yield f"{prefix}{base[:cut]}{{case}}{extension}", base[cut:]


def _pairs(patterns: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    for labels in sorted(patterns):
        named = bool(_words(labels) & set(LABEL_WORDS))
        for images in sorted(patterns):
            if images == labels or _words(images) & set(LABEL_WORDS):
                continue
            behind = labels.split("{case}")[0] == images.split("{case}")[0] and "{case}." in images
            if named or (behind and "{case}." not in labels and not images.startswith("**/")):
                yield images, labels


def _words(pattern: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", flat_id(pattern).lower()))


def _bare(pattern: str) -> frozenset[str]:
    return frozenset(_words(pattern) - set(LABEL_WORDS) - set(IMAGE_WORDS))
