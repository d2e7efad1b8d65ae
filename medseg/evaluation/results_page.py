"""What several trainings showed, as one self-contained page: sections of text, a drawing, a table and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.core.version import VERSION
from medseg.evaluation.page import embedded, render


@dataclass(frozen=True, slots=True)
class TableCell:
    """What stands in a table; small: below it; kind: good, bad, best or ''."""

    text: str
    small: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; the first column names, the others are figures."""

    columns: Sequence[str]
    rows: Sequence[Sequence[TableCell]]


@dataclass(frozen=True, slots=True)
class Shot:
    """A PNG file and what stands below it."""

    path: Path
    title: str

    @property
    def source(self) -> str:
        """The picture itself, as an address."""
        return embedded(self.path.read_bytes())


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page, in this order: texts (the first set larger if `lead`), drawing (SVG), table,
    pictures and notes; what is empty is left out."""

    title: str = ""
    texts: Sequence[str] = ()
    drawing: str = ""
    table: Table | None = None
    pictures: Sequence[Shot] = ()
    notes: Sequence[str] = ()
    lead: bool = False


def results_page(title: str, subtitle: str, sections: Sequence[Section], files: str) -> str:
    """The page; `files` names what holds the same figures. All texts are escaped, drawings are taken as they are."""
    return render("results.html.j2", title=title, subtitle=subtitle, sections=sections, files=files, version=VERSION)
