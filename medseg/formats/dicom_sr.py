"""Writing measurements as a DICOM Structured Report: TID 1500 "Measurement Report" (PS3.16).

One measurement group (TID 1411) a label. It refers to the label's segment in the DICOM SEG of the same
result and to the source series, says what the structure is in the task's own codes, and whether it was
found: a structure without voxels has the volume 0 ml and the evaluation "absent", an explicit negative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import highdicom
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode

from medseg.core.errors import FormatError
from medseg.core.labels import Label
from medseg.core.measurement import HOUNSFIELD, SUV, Measurement, Spread, Unit
from medseg.core.version import VERSION
from medseg.formats.checks import in_short
from medseg.formats.dicom_deidentify import replacement
from medseg.formats.dicom_derived import LONG, MANUFACTURER, Derived, meaning, own_series, task_name
from medseg.formats.dicom_frames import text
from medseg.formats.quiet import quiet

_SERIES_NUMBER = 302
# A device that observes must have a UID; this one stands for medseg, whatever machine it runs on.
_DEVICE = replacement("medseg")
_PRESENCE = DicomCode("705057003", "SCT", "Presence")
_PROCEDURES = {
    "CT": DicomCode("77477000", "SCT", "Computerized axial tomography"),
    "MR": DicomCode("113091000", "SCT", "Magnetic resonance imaging"),
    "PT": DicomCode("82918005", "SCT", "Positron emission tomography"),
}
_ANY_PROCEDURE = DicomCode("363679005", "SCT", "Imaging")
_IMAGE_VALUE = DicomCode("IMAGE_VALUE", "99MEDSEG", "Image value")
_DERIVATIONS = {
    "mean": codes.SCT.Mean,
    "sd": codes.SCT.StandardDeviation,
    "p5": codes.SCT.FifthPercentile,
    "p50": codes.SCT.Median,
    "p95": codes.SCT.NinetyFifthPercentile,
}
_DECIMALS = 4


def report(derived: Derived, segmentation: Dataset, measurements: Sequence[Measurement]) -> Dataset:
    """The report object. segmentation: the DICOM SEG made of the same `derived`; measurements: one a label.

    Raises FormatError (missing-uids) where the source's headers are too odd to refer to.
    """
    with quiet():
        try:
            return _object(derived, segmentation, measurements)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # what highdicom raises for odd sources
            reason = f"no structured report can refer to it ({in_short(error)})"
            raise FormatError(derived.source.path, reason, "missing-uids") from error


def _object(derived: Derived, segmentation: Dataset, measurements: Sequence[Measurement]) -> Dataset:
    modality = text(derived.first, "Modality")
    measured = {measurement.value: measurement for measurement in measurements}
    groups = [
        _group(number, label, measured[label.value], derived, segmentation)
        for number, label in enumerate(derived.labels, start=1)
        if label.value in measured
    ]
    content = sr.MeasurementReport(
        observation_context=_observer(),
        procedure_reported=_PROCEDURES.get(modality, _ANY_PROCEDURE),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    made: Dataset = sr.Comprehensive3DSR(
        evidence=[segmentation, *derived.images],
        content=content[0],
        is_complete=True,
        series_description=f"medseg {task_name(derived)}"[:LONG],
        **own_series(_SERIES_NUMBER),
    )
    return made


def _observer() -> Any:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_DEVICE, name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=f"{MANUFACTURER} {VERSION}"
    )
    context = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return sr.ObservationContext(observer_device_context=context)


def _group(number: int, label: Label, measured: Measurement, derived: Derived, segmentation: Dataset) -> Any:
    _, kind, modifier = meaning(label)
    found = codes.SCT.Present if measured.voxels else codes.SCT.Absent
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=highdicom.UID(), identifier=label.name[:LONG]),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=sr.SourceSeriesForSegmentation(derived.first.SeriesInstanceUID),
        ),
        finding_type=kind,
        finding_sites=[sr.FindingSite(anatomic_location=kind, laterality=modifier)],
        algorithm_id=_algorithm(derived),
        measurements=list(_measurements(measured)),
        qualitative_evaluations=[sr.QualitativeEvaluation(_PRESENCE, found)],
    )


def _algorithm(derived: Derived) -> Any:
    parameters = [f"{key}={value}" for key, value in derived.provenance.items()]
    return sr.AlgorithmIdentification(
        name=MANUFACTURER,
        version=VERSION,
        parameters=parameters or None,
        family=codes.cid7162.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
    )


def _measurements(measured: Measurement) -> Iterator[Any]:
    if measured.volume_ml is not None:
        millilitres = DicomCode("ml", "UCUM", "milliliter")
        yield _number(codes.SCT.Volume, measured.volume_ml, millilitres)
    if measured.longest_mm is not None:
        yield _number(DicomCode("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh"), measured.longest_mm, _MILLIMETRES)
    if measured.longest_axial_mm is not None:
        yield _number(codes.SCT.LongAxis, measured.longest_axial_mm, _MILLIMETRES)
    for spread in measured.spreads[:1]:  # a DICOM series in grey has one channel; colours are no quantities
        yield from _spread(spread, measured.unit)


_MILLIMETRES = DicomCode("mm", "UCUM", "millimeter")


def _spread(spread: Spread, unit: Unit) -> Iterator[Any]:
    quantity = {HOUNSFIELD: codes.DCM.AttenuationCoefficient, SUV: codes.DCM.Suvbw}.get(unit, _IMAGE_VALUE)
    coded = DicomCode(unit.ucum, "UCUM", unit.name or "no units")
    for key, derivation in _DERIVATIONS.items():
        yield _number(quantity, getattr(spread, key), coded, derivation)


def _number(name: DicomCode, value: float, unit: DicomCode, derivation: DicomCode | None = None) -> Any:
    return sr.Measurement(name=name, value=round(value, _DECIMALS), unit=unit, derivation=derivation)
