"""Which prediction belongs to which reference, told from their names alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medseg.core.case import Source
from medseg.data.names import CHANNEL, IMAGE_WORDS, LABEL_WORDS, bare

# What `predict` writes beside its label maps, and what `evaluate` adds.
_HELPER_FOLDERS = ("previews", "pictures")


@dataclass(frozen=True, slots=True)
class Match:
    """pairs: (reference, what belongs to it); missing: references left alone; extra: the others left alone."""

    pairs: tuple[tuple[Source, Source], ...]
    missing: tuple[Source, ...]
    extra: tuple[Source, ...]


def match(others: Sequence[Source], references: Sequence[Source]) -> Match:
    """Pair every reference with the scan of its name.

    Names are compared whole first (relative path without extension), then without folders, then
    without channel numbers and words such as mask or seg; each time only names that are unique on
    both sides are paired.
    """
    found: dict[str, Source] = {}
    left, right = list(references), list(others)
    for key in (_whole, _file, _core):
        names = _unique(right, key)
        for name, reference in _unique(left, key).items():
            if name in names:
                found[reference.name] = names[name]
        taken = {other.name for other in found.values()}
        left = [reference for reference in left if reference.name not in found]
        right = [other for other in right if other.name not in taken]
    pairs = tuple((reference, found[reference.name]) for reference in references if reference.name in found)
    return Match(pairs, tuple(left), tuple(right))


def without_helpers(sources: Sequence[Source], root: Path) -> list[Source]:
    """The label maps among what lies in a folder of predictions: previews, pictures and DICOM copies left out."""
    return [source for source in sources if source.format != "dicom" and not _is_helper(source.path, root)]


def first_channels(sources: Sequence[Source]) -> list[Source]:
    """One image per case of a folder that names channels `_0000`, `_0001` …: the first."""
    names = {source.name for source in sources}
    return [source for source in sources if not _is_further_channel(source.name, names)]


def _is_helper(path: Path, root: Path) -> bool:
    try:
        parts = path.relative_to(root).parts[:-1]
    except ValueError:
        return False
    return any(part in _HELPER_FOLDERS for part in parts)


def _is_further_channel(name: str, names: set[str]) -> bool:
    found = CHANNEL.fullmatch(name)
    return found is not None and found["number"] != "0000" and f"{found['base']}_0000" in names


def _unique(sources: Sequence[Source], key: Callable[[Source], str]) -> dict[str, Source]:
    often = Counter(key(source) for source in sources)
    return {key(source): source for source in sources if often[key(source)] == 1}


def _whole(source: Source) -> str:
    return source.name


def _file(source: Source) -> str:
    return PurePosixPath(source.name).name


def _core(source: Source) -> str:
    name = _file(source)
    channel = CHANNEL.fullmatch(name)
    return bare(bare(channel["base"] if channel else name, LABEL_WORDS), IMAGE_WORDS)
