"""Segment a folder of scans with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.batch.outputs import SegType
from medseg.batch.results import BatchResult
from medseg.core.errors import UsageError
from medseg.core.events import Listener, silent

if TYPE_CHECKING:
    from medseg.bundle import Bundle
    from medseg.executors.contract import Limits
    from medseg.inference import Predictor

_RETRIES = ("failed", "refused", "review")
_SEG_TYPES: dict[str, SegType] = {"binary": "BINARY", "labelmap": "LABELMAP"}


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How to predict.

    device: auto, cpu or cuda; flips: average over mirrored copies, overlap: of neighbouring windows
    (fraction of the patch), both None for what the model's plan says; seg: DICOM SEG beside the label
    map of DICOM scans; previews: a picture a scan; outputs: all kinds of outputs by name, in place of
    these two; seg_type: of DICOM SEG, binary (one frame a label and slice, which every reader knows) or
    labelmap (one frame a slice, DICOM of 2024); deidentify: DICOM outputs without what identifies the
    patient; tracebacks: report those of failed scans; keep_identifiers: patients' names and ids, as DICOM
    headers tell them, stay in file names. retry: ends of an earlier run that are tried again (failed,
    refused, review).

    executor: serial, processes (a script that asks for it needs `if __name__ == "__main__":`) or ray;
    workers, timeout (seconds a scan), address (of a Ray cluster): for it; memory: bytes that the
    workers on one machine may take together; quiet_for: watch the folder, and take series that did not change for
    so many seconds, until an interrupt.
    """

    device: str = "auto"
    flips: bool | None = None
    overlap: float | None = None
    seg: bool = True
    previews: bool = True
    tracebacks: bool = False
    keep_identifiers: bool = False
    outputs: Sequence[str] | None = None
    seg_type: str = "binary"
    deidentify: bool = False
    retry: Sequence[str] = ()
    executor: str = "serial"
    workers: int | None = None
    timeout: float | None = None
    address: str | None = None
    memory: int | None = None
    quiet_for: float | None = None


def predict(
    scans: Path | str,
    model: Path | str,
    output: Path | str,
    options: PredictOptions | None = None,
    listener: Listener = silent,
) -> BatchResult:
    """Segment every scan below `scans` with `model` (a run folder or a bundle) into `output`.

    Each scan gives a label map on its own grid, a preview and a row in `output`/results.csv; one
    that cannot be segmented is named there with the reason and never stops the others. What an
    earlier run into `output` did from the same files, model and options is not done again.

    Raises BundleError for an unusable model, UsageError where there is nothing to segment.
    """
    from medseg.batch.ledger import State
    from medseg.batch.run import BatchOptions, Model, predict_folder
    from medseg.bundle import Bundle

    options = options or PredictOptions()
    _check(options)
    load = PredictorLoader(Path(model), options)
    bundle = Bundle.load(Path(model))
    window = load.changed(bundle).plan.window
    batch = BatchOptions(
        kinds=_kinds(options),
        deidentify=options.deidentify,
        seg_type=_SEG_TYPES[options.seg_type],
        tracebacks=options.tracebacks,
        keep_identifiers=options.keep_identifiers,
        retry=frozenset(State(state) for state in options.retry),
        executor=options.executor,
        limits=_limits(options),
        quiet_for=options.quiet_for,
        answers={"flips": str(window.flips), "overlap": str(window.overlap)},
    )
    return predict_folder(Path(scans), Model(bundle, load), Path(output), batch, listener)


@dataclass(frozen=True, slots=True)
class PredictorLoader:
    """Loads the predictor of a model, in this process or in a worker."""

    model: Path
    options: PredictOptions

    def __call__(self) -> Predictor:
        from medseg.bundle import Bundle
        from medseg.inference import Predictor

        self._share_cores()
        memory = self.options.memory
        share = None if memory is None else memory // self._workers
        return Predictor(self.changed(Bundle.load(self.model)), self.options.device, share)

    def changed(self, bundle: Bundle) -> Bundle:
        """The bundle with the window that is asked for."""
        options, window = self.options, bundle.plan.window
        window = replace(
            window,
            flips=window.flips if options.flips is None else options.flips,
            overlap=window.overlap if options.overlap is None else options.overlap,
        )
        return replace(bundle, plan=replace(bundle.plan, window=window))

    @property
    def _workers(self) -> int:
        """Workers that share this machine (on a cluster they are spread over machines)."""
        return (self.options.workers or 1) if self.options.executor == "processes" else 1

    def _share_cores(self) -> None:
        """Several workers on one machine get their share of its cores each."""
        if self._workers > 1:
            import torch

            torch.set_num_threads(max(1, torch.get_num_threads() // self._workers))


def _check(options: PredictOptions) -> None:
    if options.overlap is not None and not 0.0 <= options.overlap <= 0.9:
        raise UsageError(f"overlap: must lie between 0 and 0.9, not {options.overlap}")
    if options.quiet_for is not None and not options.quiet_for > 0:
        raise UsageError(f"quiet_for: must be longer than zero, not {options.quiet_for}")
    if options.seg_type not in _SEG_TYPES:
        raise UsageError(f"seg_type: there is no {options.seg_type!r}; there are {', '.join(_SEG_TYPES)}")
    unknown = sorted(set(options.retry) - set(_RETRIES))
    if unknown:
        raise UsageError(f"retry: there is no {unknown[0]!r}; there are {', '.join(_RETRIES)}")


def _limits(options: PredictOptions) -> Limits:
    """With a limit on memory no scan is read ahead: what is promised is for one scan at a time."""
    from medseg.executors.contract import DEPTH, Limits

    return Limits(
        workers=options.workers,
        timeout=options.timeout,
        address=options.address,
        accelerator=options.device != "cpu",
        depth=DEPTH if options.memory is None else 1,
    )


def _kinds(options: PredictOptions) -> frozenset[str]:
    """What is written; the label map always is."""
    if options.outputs is not None:
        return frozenset({"nifti", *options.outputs})
    chosen = {"seg": options.seg, "preview": options.previews}
    return frozenset({"nifti", *(kind for kind, wanted in chosen.items() if wanted)})
