"""What every annotation reader gives: pictures with their named shapes painted into a label map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Finding, Severity

# Names that mean the same in every tool: Labelme's own export knows them with and without underscores.
BACKGROUND = ("background", "_background_", "__background__")
IGNORE = ("ignore", "_ignore_", "__ignore__")

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One annotated image.

    image: its file, or the bytes of a picture file where the annotation carries them.
    labels: int32 [rows, columns, pages]; 0 where nothing is drawn, v where classes[v - 1] is.
    shapes: class -> number of shapes (or of objects); classes without any are not in it.
    unknown: classes that mean "not to be judged here" (void borders, crowds) unless a task names them.
    instances: the numbers of single objects on the same grid, where the format tells them apart.
    upright: whether the tool shows the image turned as its EXIF orientation says, and so are `labels`.
    """

    image: Path | bytes
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    shapes: Mapping[str, int]
    findings: tuple[Finding, ...] = ()
    unknown: frozenset[str] = frozenset()
    instances: NDArray[np.int32] | None = None
    upright: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A picture that is yet to be read; `name` is its path in the annotations, without extension.

    `read` raises FormatError (path, reason, code) where the picture cannot be used.
    """

    name: str
    read: Callable[[], Picture]


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """All pictures of one source. `classes` are those that the tool declares, in its order (may be empty)."""

    format: str
    pictures: tuple[Pending, ...]
    classes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(slots=True, eq=False)
class Canvas:
    """Paints the shapes of one image: later shapes lie over earlier ones."""

    size: tuple[int, int]  # rows, columns
    _labels: NDArray[np.int32] = field(init=False)
    _classes: dict[str, int] = field(init=False, default_factory=dict)
    _shapes: Counter[str] = field(init=False, default_factory=Counter)
    _findings: list[Finding] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._labels = np.zeros(self.size, dtype=np.int32)

    def paint(self, name: str, mask: Mask, corner: tuple[int, int] = (0, 0)) -> None:
        """Paint a mask [rows, columns] whose first pixel lies at `corner` (row, column); what lies outside is cut."""
        rows, columns = (
            slice(max(0, start), max(0, min(total, start + length)))
            for start, length, total in zip(corner, mask.shape, self.size, strict=True)
        )
        inside = mask[
            rows.start - corner[0] : max(0, rows.stop - corner[0]),
            columns.start - corner[1] : max(0, columns.stop - corner[1]),
        ]
        if not inside.any():
            self.leave_out("broken-shape", "a shape covers no pixel of the image", name)
            return
        self._labels[rows, columns][inside] = self._value(name)
        self._shapes[name] += 1

    def leave_out(self, code: str, why: str, name: str = "", severity: Severity = Severity.WARNING) -> None:
        """Note that a shape (of the class `name`) was not painted, and why."""
        of = f" (class {name})" if name else ""
        self._findings.append(Finding(code, severity, f"{why}{of}", {"why": why, "class": name}))

    def picture(self, image: Path | bytes, unknown: Sequence[str] = (), upright: bool = False) -> Picture:
        """What was painted, as a picture of one page."""
        return Picture(
            image=image,
            labels=self._labels[..., np.newaxis],
            classes=tuple(self._classes),
            shapes=dict(self._shapes),
            findings=tuple(self._findings),
            unknown=frozenset(unknown),
            upright=upright,
        )

    def _value(self, name: str) -> int:
        return self._classes.setdefault(name, len(self._classes) + 1)


def _number_text(value: int) -> str:
    return f"number {value}"


def from_values(
    image: Path,
    values: NDArray[Any],
    names: Mapping[int, str],
    unknown: Sequence[str] = (),
    text: Callable[[int], str] = _number_text,
) -> Picture:
    """A picture from a label map [rows, columns] of numbers; `names` says what each means.

    Numbers without a name (`text` words them) become classes of their own, which count as unknown
    and are told.
    """
    labels = np.zeros(values.shape, dtype=np.int32)
    classes: dict[str, int] = {}
    strange = {value: text(value) for value in np.unique(values).tolist() if value not in names}
    for value in np.unique(values).tolist():
        name = strange.get(value) or names[value]
        if name.lower() not in BACKGROUND:
            labels[values == value] = classes.setdefault(name, len(classes) + 1)
    return Picture(
        image=image,
        labels=labels[..., np.newaxis],
        classes=tuple(classes),
        shapes=dict.fromkeys(classes, 1),
        findings=tuple(_undeclared(name) for name in strange.values()),
        unknown=frozenset((*unknown, *strange.values())),
    )


def _undeclared(name: str) -> Finding:
    why = f"a label picture holds the {name}, which the list of classes does not name"
    return Finding("undeclared-label", Severity.WARNING, why, {"why": why, "class": ""})
