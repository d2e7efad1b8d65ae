"""Scans of two folders brought together by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg import formats
from medseg.core.case import Case, Source
from medseg.data.dataset import Problem
from medseg.data.names import CHANNEL, IMAGE_WORDS, LABEL_WORDS, bare, case_name


@dataclass(frozen=True, slots=True)
class Found:
    """What a layout found. A case without a label has `label` None; a group of '' is not yet known."""

    layout: str
    cases: tuple[Case, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def pair_folders(images: Path, labels: Path, channels: int | None, layout: str) -> Found:
    """Cases from a folder of images and one of label maps with matching names.

    Names match when they are equal, when the image's has a channel number behind it (`_0000`), or
    (in folders where no name is equal) when they are so without a word such as `_image` or `_mask`.
    `channels` is how many the task has (None: not known).
    """
    problems: list[Problem] = []
    label_of = _unique(formats.discover(labels), labels, "label", problems)
    image_of = _unique(formats.discover(images), images, "image", problems)
    doubtful = {problem.case for problem in problems}
    groups = _grouped(image_of, label_of)
    cases = []
    for name, members in groups.items():
        if name in doubtful:
            continue
        problem = _channel_problem(name, list(members), channels)
        if problem is not None:
            problems.append(problem)
            continue
        sources = tuple(image_of[members[number]] for number in sorted(members))
        cases.append(Case(name, "", sources, label_of.get(name)))
    problems += unpaired(label_of, {*groups, *doubtful})
    return Found(layout, tuple(cases), tuple(problems))


def unpaired(label_of: Mapping[str, Source], matched: Iterable[str]) -> list[Problem]:
    """A problem for every label map that no image belongs to."""
    return [
        Problem(name, "unpaired", f"{label_of[name].path}: this label map has no image of its name")
        for name in sorted(set(label_of) - set(matched))
    ]


def ambiguous(name: str, what: str, paths: Sequence[Path]) -> Problem:
    """The problem of several files that all claim to be one case's image or label."""
    listed = ", ".join(str(path) for path in paths)
    return Problem(name, "ambiguous", f"{len(paths)} files could be its {what}: {listed}; keep one of them")


def _unique(sources: Sequence[Source], folder: Path, what: str, problems: list[Problem]) -> dict[str, Source]:
    named: defaultdict[str, list[Source]] = defaultdict(list)
    for source in sources:
        named[case_name(source, folder)].append(source)
    for name, several in named.items():
        if len(several) > 1:
            problems.append(ambiguous(name, what, [source.path for source in several]))
    return {name: several[0] for name, several in named.items()}


def _grouped(image_of: Mapping[str, Source], label_of: Mapping[str, Source]) -> dict[str, dict[int, str]]:
    """Case name (its label's, where it has one) -> {channel number: image name}."""
    groups: defaultdict[str, dict[int, str]] = defaultdict(dict)
    left: list[str] = []
    by_channel = False
    for name in sorted(image_of):
        match = CHANNEL.fullmatch(name)
        if name in label_of:
            groups[name][0] = name
        elif match and match["base"] in label_of:
            groups[match["base"]][int(match["number"])] = name
            by_channel = True
        else:
            left.append(name)
    # Words such as _image and _mask are looked past only where no names are equal: `a_image` beside
    # `a_label` may as well be an image that lacks its label in a folder where names are.
    bare_labels = {} if groups else {bare(name, LABEL_WORDS): name for name in label_of}
    for name in left:
        # An image without a label: `_0001` is its channel only where it is one elsewhere.
        match = CHANNEL.fullmatch(name) if by_channel else None
        label = bare_labels.get(name) or bare_labels.get(bare(name, IMAGE_WORDS))
        if label:
            groups[label][0] = name
        elif match:
            groups[match["base"]][int(match["number"])] = name
        else:
            groups[name][0] = name
    return dict(groups)


def _channel_problem(name: str, numbers: list[int], channels: int | None) -> Problem | None:
    numbers = sorted(numbers)
    expected = len(numbers) if channels is None or len(numbers) == 1 else channels
    if numbers == list(range(expected)):
        return None
    files = ", ".join(f"_{number:04d}" for number in numbers)
    wanted = ", ".join(f"_{number:04d}" for number in range(channels or max(numbers) + 1))
    return Problem(name, "wrong-channels", f"there are image files for channels {files}; needed are {wanted}")
