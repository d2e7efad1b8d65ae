"""One scan after the other through one model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.bundle import Bundle
from medseg.core.case import Outcome, Prediction, Scan, Status
from medseg.core.geometry import Geometry
from medseg.core.labels import mirrored_values
from medseg.core.quality import Calibration
from medseg.core.volume import LabelMap, Volume
from medseg.inference.calibration import Estimator
from medseg.inference.crf import refine
from medseg.inference.device import precision, resolve_device
from medseg.inference.gate import check_scan, in_training_units, judge
from medseg.inference.heads import split_head
from medseg.inference.instances import separate
from medseg.inference.memory import refusal
from medseg.inference.postprocess import postprocess
from medseg.inference.quality import QualityStatistics, evidence_of
from medseg.inference.slabs import Segmented, segment
from medseg.inference.window import Engine, whole
from medseg.preprocess import Prepared, fit_channels, prepare, restore


class Predictor:
    """Segments scans with a bundle; the network is loaded once.

    device: auto, cpu, cuda or cuda:N; memory: bytes that the whole process may take (None: no limit),
    more than which a scan is refused for. Raises UsageError where there is no such device, BundleError
    where the weights do not fit the plan.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", memory: int | None = None) -> None:
        self.bundle = bundle
        self.memory = memory
        self.device = resolve_device(device)
        self._labels = bundle.task.label_table()
        network, head = split_head(bundle.network().to(self.device).eval())
        given, mirror = precision(bundle.plan, self.device), tuple(mirrored_values(self._labels))
        self._engine = Engine(network, bundle.plan, self.device, given, mirror, head)
        self._estimator = Estimator(bundle.calibration or Calibration())

    def predict(self, scan: Scan) -> Prediction:
        """The label map on the scan's own grid; empty where the outcome is refused, which says why.

        Raises UsageError where the scan is absurdly large at the plan's spacing.
        """
        task = self.bundle.task
        outcome = check_scan(scan, task, self.bundle.fingerprint)
        geometry = scan.volume.geometry
        measured = in_training_units(scan, self.bundle.fingerprint)
        if self.memory is not None and outcome.status is not Status.REFUSED:
            outcome = self._bounded(measured.volume.geometry, self.memory, outcome)
        if outcome.status is Status.REFUSED:
            empty = LabelMap(np.zeros(geometry.shape, dtype=np.uint8), geometry, self._labels)
            return Prediction(empty, scan, outcome)
        found = self._segment(fit_channels(measured, task).volume)
        labelmap = LabelMap(found.labels, geometry, self._labels)
        final = postprocess(labelmap, task)
        objects = self._objects(final, found, measured.volume.geometry)
        if objects is not None:
            final = LabelMap((objects > 0).astype(np.uint8), geometry, self._labels)
        evidence = evidence_of(found.certainty, final, self.bundle.plan.spacing)
        prediction = Prediction(
            final, scan, outcome, found.certainty.confidence, evidence=evidence, instances=objects
        )  # fmt: skip
        return judge(prediction, self.bundle.fingerprint, self._estimator)

    def predict_array(self, array: NDArray[np.float32]) -> Tensor:
        """Probabilities [L, I, J, K] (float32, on the CPU) of a prepared image [C, I, J, K]."""
        image = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        return whole(self._engine, image)

    def _objects(self, labelmap: LabelMap, found: Segmented, geometry: Geometry) -> NDArray[np.int32] | None:
        spec = self.bundle.plan.instances
        if spec is None or found.interiors is None:
            return None
        return separate(labelmap.array > 0, found.interiors, spec, geometry.spacing, found.foreground)

    def _bounded(self, geometry: Geometry, memory: int, outcome: Outcome) -> Outcome:
        reason = refusal(geometry, self.bundle, memory)
        return Outcome(Status.REFUSED, reason, "too-large") if reason else outcome

    def _segment(self, volume: Volume) -> Segmented:
        prepared = prepare(volume, self.bundle.plan)
        if self.bundle.plan.crf.iterations:
            return self._refined(prepared)
        return segment(self._engine, torch.from_numpy(prepared.array), prepared.trace)

    def _refined(self, prepared: Prepared) -> Segmented:
        """With the dense CRF, which needs the probabilities of the whole volume; certainty is the network's own."""
        probabilities = self.predict_array(prepared.array)
        statistics = QualityStatistics()
        statistics.add(probabilities)
        refined = refine(probabilities.numpy(), prepared.array, self.bundle.plan)
        return Segmented(restore(refined, prepared.trace), statistics.finish())
