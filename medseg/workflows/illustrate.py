"""What a report shows of single cases: slices for its viewer, and pictures of the best, the median and the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg import formats
from medseg.core.case import Scan, Source
from medseg.core.errors import MedsegError, UsageError
from medseg.core.events import Listener, Message, Progress
from medseg.core.labels import Label
from medseg.core.volume import LabelMap
from medseg.data.labels import align_label
from medseg.evaluation.compare import on_reference
from medseg.evaluation.matching import first_channels, match
from medseg.evaluation.pictures import overlay_picture
from medseg.evaluation.report_page import MOST_SLIDE_BYTES, Illustrations, Picture
from medseg.evaluation.slides import Slides, make_slides
from medseg.evaluation.values import Meaning

# Cases are read again for their slices, so that this is also a matter of time.
MOST_CASES = 60


@dataclass(frozen=True, slots=True)
class Album:
    """From what a report is illustrated.

    pairs: case -> its reference and its predictions, one per model, None where there is none; meaning, labels:
    of their values; images: folder of the scans, if any; folder: where pictures go; resample: as in
    EvaluateOptions.
    """

    pairs: Mapping[str, tuple[Source, Sequence[Source | None]]]
    meaning: Meaning
    labels: Sequence[Label]
    images: Path | None
    folder: Path
    resample: bool = False


def illustrate(
    album: Album, order: Sequence[str], captions: Mapping[str, tuple[str, str]], listener: Listener
) -> Illustrations:
    """Slices of the cases in `order`, as many as fit the page, and overlays where the scans are at hand.

    captions: case -> (rank, caption) of those that get a picture PICTURES/rank.png; with several models it
    shows the first one's prediction. A case that cannot be shown is left out, and told where a picture of it
    was wanted.
    """
    images = _images(album)
    pictures: dict[str, Picture] = {}
    slides: list[Slides] = []
    room = MOST_SLIDE_BYTES
    chosen = [case for case in order if case in album.pairs][:MOST_CASES]
    for done, case in enumerate(chosen):
        listener(Progress("draw", done, len(chosen)))
        wanted = captions.get(case) if album.images is not None or case in images else None
        if room <= 0 and wanted is None:
            continue
        try:
            scan, maps = _read(album, case, images.get(case))
            slides.append(_slides(album, case, scan, maps))
            room -= slides[-1].page_bytes
            if wanted is not None:
                pictures[wanted[0]] = _picture(album, case, (scan, maps), wanted)
        except MedsegError as error:
            if wanted is not None:
                listener(Message(f"{case}: no picture ({error})", "warning"))
    listener(Progress("draw", len(chosen), len(chosen)))
    ranked = [pictures[rank] for rank in ("best", "median", "worst") if rank in pictures]
    return Illustrations(ranked, None, slides, album.labels)


def _images(album: Album) -> dict[str, Source]:
    if album.images is None:
        return dict(album.meaning.drawn_on)
    matched = match(
        first_channels(formats.discover(album.images)), [reference for reference, _ in album.pairs.values()]
    )
    return {reference.name: image for reference, image in matched.pairs}


def _read(album: Album, case: str, image: Source | None) -> tuple[Scan | None, list[LabelMap]]:
    """The scan and, on its grid, reference and predictions; a prediction that cannot be used is empty."""
    reference, predictions = album.pairs[case]
    true = album.meaning.read_reference(reference)
    maps = [true]
    for prediction in predictions:
        found = LabelMap(np.zeros(true.array.shape, dtype=np.uint8), true.geometry, true.labels)
        if prediction is not None:
            with suppress(MedsegError):
                given = album.meaning.read_prediction(prediction)
                found, _ = on_reference(given, prediction, true, reference, album.resample)
        maps.append(found)
    if image is None:
        return None, maps
    scan = formats.read(image)
    return scan, [align_label(labelmap, reference, scan) for labelmap in maps]


def _slides(album: Album, case: str, scan: Scan | None, maps: Sequence[LabelMap]) -> Slides:
    volume = None if scan is None else scan.volume
    return make_slides(case, volume, maps[0], maps[1:], album.labels, album.meaning.ignore)


def _picture(album: Album, case: str, read: tuple[Scan | None, Sequence[LabelMap]], wanted: tuple[str, str]) -> Picture:
    (scan, maps), (rank, caption) = read, wanted
    if scan is None:
        raise UsageError(f"{album.images} holds no scan of this name")
    path = album.folder / f"{rank}.png"
    overlay_picture(scan.volume, maps[1], maps[0], path)
    return Picture(path, f"{rank.capitalize()}: {case}", caption)
