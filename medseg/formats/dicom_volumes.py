"""A series that holds several volumes, taken apart: by orientation, echo, b-value, time, acquisition …"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Finding, Severity
from medseg.formats.dicom_frames import Frame
from medseg.formats.dicom_stack import COSINE, clusters

_SHOWN = 60  # characters of a value in a sentence


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The frames of one volume of a series, and what is to be said about its being one of several."""

    frames: tuple[Frame, ...]
    findings: tuple[Finding, ...] = ()


def split(frames: Sequence[Frame]) -> list[Part]:
    """The volumes among the frames of one series, in an order that depends on what tells them apart alone.

    Images of several orientations are several volumes; so are images at one position that differ in
    echo time, b-value, diffusion direction, temporal position, cardiac phase, trigger time,
    acquisition, image type or time. What nothing tells apart stays together, and is refused when it
    is stacked.
    """
    turned = _by_orientation(frames)
    parts: list[Part] = []
    for group in turned:
        findings = _one_of_orientations(group, len(turned)) if len(turned) > 1 else ()
        parts += [Part(part.frames, (*findings, *part.findings)) for part in _by_stamps(group)]
    return parts


def _by_orientation(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Largest group first; all together where one has no orientation, which is said when they are stacked."""
    groups: list[tuple[NDArray[np.float64], list[Frame]]] = []
    for frame in frames:
        if frame.orientation is None:
            return [list(frames)]
        cosines = np.array(frame.orientation)
        group = next((members for known, members in groups if np.abs(known - cosines).max() <= COSINE), None)
        if group is None:
            groups.append((cosines, [frame]))
        else:
            group.append(frame)
    return sorted((members for _, members in groups), key=lambda members: (-len(members), members[0].orientation or ()))


def _one_of_orientations(group: Sequence[Frame], count: int) -> tuple[Finding, ...]:
    values = {"orientations": count}
    if len(group) == 1:
        text = f"a single image of its orientation in a series of {count} orientations, so it is a scout and no volume"
        return (Finding("mixed-orientation", Severity.ERROR, text, values),)
    text = f"its series holds images of {count} orientations; each is taken as a volume of its own"
    return (Finding("mixed-orientation", Severity.WARNING, text, values),)


def _by_stamps(frames: Sequence[Frame]) -> list[Part]:
    places = clusters(frames)
    if len(places) in (1, len(frames)) or any(frame.position is None for frame in frames):
        return [Part(tuple(frames))]
    for words in _candidates([place for place in places if len(place) > 1]):
        groups = _grouped(frames, words)
        if all(1 < len(group) == len(clusters(group)) for group in groups.values()):
            return list(_parts(groups, words))
    return [Part(tuple(frames))]


def _candidates(crowded: Sequence[Sequence[Frame]]) -> Iterator[tuple[str, ...]]:
    """What differs between images at one position: each word alone, then two together, then all."""
    words = list(
        dict.fromkeys(
            word
            for place in crowded
            for word in dict.fromkeys(word for frame in place for word, _ in frame.stamps)
            if len({dict(frame.stamps).get(word) for frame in place}) > 1
        )
    )
    yield from ((word,) for word in words)
    yield from combinations(words, 2)
    if len(words) > 2:
        yield tuple(words)


def _grouped(frames: Sequence[Frame], words: tuple[str, ...]) -> dict[tuple[str, ...], list[Frame]]:
    groups: dict[tuple[str, ...], list[Frame]] = {}
    for frame in frames:
        stamps = dict(frame.stamps)
        groups.setdefault(tuple(stamps.get(word, "") for word in words), []).append(frame)
    return dict(sorted(groups.items(), key=lambda item: [_sortable(value) for value in item[0]]))


def _sortable(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _parts(groups: dict[tuple[str, ...], list[Frame]], words: tuple[str, ...]) -> Iterator[Part]:
    for number, (values, group) in enumerate(groups.items(), start=1):
        what = ", ".join(f"{word} {value[:_SHOWN] or 'not given'}" for word, value in zip(words, values, strict=True))
        text = f"volume {number} of {len(groups)} of its series ({what})"
        facts = {"volume": number, "of": len(groups), **dict(zip(words, values, strict=True))}
        yield Part(tuple(group), (Finding("multi-volume", Severity.INFO, text, facts),))
