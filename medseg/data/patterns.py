"""Cases found by glob patterns with `{case}` and `{group}`, for data laid out in their own way."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg import formats
from medseg.core.case import Case, Source
from medseg.core.errors import FormatError
from medseg.data.dataset import Problem
from medseg.data.names import flat_id
from medseg.data.pairs import Found, ambiguous

Key = tuple[str, str]  # group ('' where the pattern has none), case


def find_by_pattern(root: Path, images: Sequence[str], labels: str | None, channels: int | None) -> Found | None:
    """Cases whose files match the patterns, one images pattern per channel file; None where no image matches.

    A pattern may match a file or a folder that holds one DICOM series. Case names that occur in
    several groups become `group__case`.
    """
    tree = list(_walk(root))
    matched = [_matches(tree, pattern) for pattern in images]
    if not any(matched):
        return None
    label_files = _matches(tree, labels) if labels else {}
    _disentangle(matched, label_files)
    keys = sorted({key for files in matched for key in files})
    ids = _ids(keys)
    finder = _Finder(root, {})
    problems: list[Problem] = []
    cases: list[Case] = []
    used: set[Key] = set()
    for key in keys:
        name = ids[key]
        label_key = _label_key(key, label_files)
        used.add(label_key)
        try:
            sources = tuple(
                finder.one(name, files.get(key, []), f"image ({pattern})")
                for pattern, files in zip(images, matched, strict=True)
            )
            label = finder.one(name, label_files[label_key], "label") if label_key in label_files else None
        except _Unusable as unusable:
            problems.append(unusable.problem)
            continue
        cases.append(Case(name, flat_id(key[0]), sources, label))
    problems += [
        Problem(flat_id("/".join(filter(None, key))), "unpaired", f"{root / paths[0]}: this label map has no image")
        for key, paths in sorted(label_files.items())
        if key not in used
    ]
    if len(images) > 1 and channels is not None and len(images) != channels:
        text = f"there are {len(images)} images patterns, but the task has {channels} channels"
        problems = [*problems, *(Problem(case.id, "wrong-channels", text) for case in cases)]
        cases = []
    return Found(f"files matching {' + '.join(images)}", tuple(cases), tuple(problems))


def expression(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression over posix paths below the root.

    `{case}` and `{group}` stand for text without a slash (the same text where they stand twice),
    `*` for any text without one, `**/` for any folders or none, `?` for one character.
    """
    known: set[str] = set()
    parts = re.split(r"(\{case\}|\{group\}|\*\*/|\*\*|\*|\?)", pattern.removeprefix("./"))
    plain = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    text = ""
    for part in parts:
        if part in ("{case}", "{group}"):
            name = part[1:-1]
            text += f"(?P={name})" if name in known else f"(?P<{name}>[^/]+?)"
            known.add(name)
        else:
            text += plain.get(part) or re.escape(part)
    return re.compile(text)


class _Unusable(Exception):  # noqa: N818 -- carries a problem to the loop above, never to a user
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class _Finder:
    """Turns matched paths into sources, each file looked at once."""

    def __init__(self, root: Path, seen: dict[str, Source]) -> None:
        self.root = root
        self.seen = seen

    def one(self, case: str, paths: list[str], what: str) -> Source:
        if len(paths) != 1:
            if paths:
                raise _Unusable(ambiguous(case, what, [self.root / path for path in paths]))
            raise _Unusable(Problem(case, "missing-file", f"below {self.root} there is no file for its {what}"))
        path = paths[0]
        if path not in self.seen:
            try:
                self.seen[path] = formats.source_of(self.root / path)
            except FormatError as error:
                raise _Unusable(Problem.of(case, error)) from error
        return self.seen[path]


def _walk(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix()


def _matches(tree: Sequence[str], pattern: str) -> dict[Key, list[str]]:
    compiled = expression(pattern)
    found: defaultdict[Key, list[str]] = defaultdict(list)
    for path in tree:
        match = compiled.fullmatch(path)
        if match:
            values = match.groupdict()
            found[values.get("group") or "", values["case"]].append(path)
    return dict(found)


def _disentangle(matched: Sequence[dict[Key, list[str]]], labels: dict[Key, list[str]]) -> None:
    """Keep label maps from being images too, as `{case}.png` beside `{case}_mask.png` would have it."""
    paired = {key for key in labels if any(key in files for files in matched)}
    label_paths = {path for key in paired for path in labels[key]}
    image_paths = {path for files in matched for key in paired for path in files.get(key, [])}
    for files in matched:
        for key in [key for key, paths in files.items() if key not in paired and label_paths.issuperset(paths)]:
            del files[key]
    for key in [key for key, paths in labels.items() if key not in paired and image_paths.issuperset(paths)]:
        del labels[key]


def _ids(keys: Sequence[Key]) -> dict[Key, str]:
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for group, case in keys:
        groups[case].add(group)
    return {key: flat_id(key[1] if len(groups[key[1]]) == 1 else f"{key[0]}/{key[1]}") for key in keys}


def _label_key(key: Key, labels: dict[Key, list[str]]) -> Key:
    return ("", key[1]) if ("", key[1]) in labels else key
