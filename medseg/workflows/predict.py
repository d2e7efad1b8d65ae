"""Segment a folder of scans with a trained model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.batch.results import BatchResult
from medseg.core.errors import UsageError
from medseg.core.events import Listener, silent

if TYPE_CHECKING:
    from medseg.inference import Predictor


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How to predict.

    device: auto, cpu or cuda; flips: average over mirrored copies, overlap: of neighbouring windows
    (fraction of the patch), both None for what the model's plan says; seg: DICOM SEG beside the label
    map of DICOM scans; previews: a picture a scan; tracebacks: report those of failed scans;
    keep_identifiers: patients' names and ids, as DICOM headers tell them, stay in file names.
    """

    device: str = "auto"
    flips: bool | None = None
    overlap: float | None = None
    seg: bool = True
    previews: bool = True
    tracebacks: bool = False
    keep_identifiers: bool = False


def predict(
    scans: Path | str,
    model: Path | str,
    output: Path | str,
    options: PredictOptions | None = None,
    listener: Listener = silent,
) -> BatchResult:
    """Segment every scan below `scans` with `model` (a run folder or a bundle) into `output`.

    Each scan gives a label map on its own grid, a preview and a row in `output`/results.csv; one
    that cannot be segmented is named there with the reason and never stops the others.

    Raises BundleError for an unusable model, UsageError where there is nothing to segment.
    """
    from medseg.batch.run import BatchOptions, predict_folder

    options = options or PredictOptions()
    if options.overlap is not None and not 0.0 <= options.overlap <= 0.9:
        raise UsageError(f"overlap: must lie between 0 and 0.9, not {options.overlap}")
    predictor = _predictor(Path(model), options)
    batch = BatchOptions(options.seg, options.previews, options.tracebacks, options.keep_identifiers)
    return predict_folder(Path(scans), predictor, Path(output), batch, listener)


def _predictor(model: Path, options: PredictOptions) -> Predictor:
    from medseg.bundle import Bundle
    from medseg.inference import Predictor

    bundle = Bundle.load(model)
    window = bundle.plan.window
    window = replace(
        window,
        flips=window.flips if options.flips is None else options.flips,
        overlap=window.overlap if options.overlap is None else options.overlap,
    )
    return Predictor(replace(bundle, plan=replace(bundle.plan, window=window)), options.device)
