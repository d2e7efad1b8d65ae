"""PET values to body-weight SUV, from what the header says about the injection.

SUV = activity concentration (Bq/ml) * body weight (g) / injected dose (Bq), the dose decayed to the time
that the pixels were decay-corrected to. Sources: PS3.3 C.8.9.1 (PET series: Units, DecayCorrection),
C.8.9.2 (PET isotope), and the vendor-neutral pseudo-code of QIBA's FDG-PET/CT profile.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, DT, TM

from medseg.core.case import Finding, Severity
from medseg.core.errors import FormatError
from medseg.formats.dicom_frames import text

# Philips keeps counts and writes the factor to SUV, or the one to Bq/ml, into private elements.
_PHILIPS_SUV, _PHILIPS_ACTIVITY = (0x7053, 0x1000), (0x7053, 0x1009)
_LONGEST_UPTAKE = timedelta(hours=24)


def suv_factor(header: Dataset, acquired: Iterable[str], path: Path) -> tuple[float, Finding | None]:
    """What to multiply rescaled PET values by to get SUV (body weight), and what to say about it.

    header: the full header of one slice; acquired: AcquisitionTime (DICOM TM) of every slice.
    Raises FormatError (unknown-units) naming the missing tag or the unit that cannot be converted.
    """
    units = text(header, "Units")
    if units == "GML":
        return 1.0, _other_suv(header)
    if units == "CNTS" and (factor := _private(header, _PHILIPS_SUV)) is not None:
        return factor, _converted("counts", factor)
    concentration = _private(header, _PHILIPS_ACTIVITY) if units == "CNTS" else 1.0 if units == "BQML" else None
    if concentration is None:
        said = f"in {units}" if units else "without Units"
        raise FormatError(
            path,
            f"PET values {said} cannot become SUV; export them in BQML or GML, or set `reading: {{pet: stored}}`",
            "unknown-units",
        )
    factor = concentration * _body_weight_g(header, path) / _dose(header, acquired, path)
    return factor, _converted("Bq/ml" if units == "BQML" else "counts", factor)


def _converted(units: str, factor: float) -> Finding:
    text = f"PET values in {units} were turned into body-weight SUV (times {factor:.6g})"
    return Finding("converted-units", Severity.INFO, text, {"factor": factor})


def _other_suv(header: Dataset) -> Finding | None:
    kind = text(header, "SUVType")
    if kind in ("", "BW"):
        return None
    message = f"its SUV is normalised by {kind}, not by body weight"
    return Finding("unknown-units", Severity.WARNING, message, {"suv_type": kind})


def _private(header: Dataset, tag: tuple[int, int]) -> float | None:
    element = header.get(tag)
    try:
        value = float(element.value) if element is not None else 0.0
    except (TypeError, ValueError):
        return None
    return value if value > 0 else None


def _body_weight_g(header: Dataset, path: Path) -> float:
    return 1000.0 * _positive(header, "PatientWeight", path)


def _dose(header: Dataset, acquired: Iterable[str], path: Path) -> float:
    """The injected dose (Bq) as it was at the time the pixels are corrected to."""
    injection = next(iter(header.get("RadiopharmaceuticalInformationSequence") or ()), Dataset())
    dose = _positive(injection, "RadionuclideTotalDose", path)
    correction = text(header, "DecayCorrection")
    if correction == "ADMIN":
        return dose
    if correction != "START":
        said = f"DecayCorrection {correction}" if correction else "no DecayCorrection"
        raise FormatError(path, f"PET has {said}, so SUV cannot be computed; START and ADMIN can", "unknown-units")
    half_life = _positive(injection, "RadionuclideHalfLife", path)
    scanned = _scan_start(header, acquired, path)
    uptake = scanned - _injected(injection, scanned, path)
    if not timedelta(0) <= uptake <= _LONGEST_UPTAKE:
        raise FormatError(
            path, f"PET was scanned {uptake} after the injection, which cannot be; check its times", "unknown-units"
        )
    return float(dose * 2.0 ** (-uptake.total_seconds() / half_life))


def _scan_start(header: Dataset, acquired: Iterable[str], path: Path) -> datetime:
    """SeriesTime, or the earliest acquisition where the series was made later than that (post-processing)."""
    date = text(header, "AcquisitionDate") or text(header, "SeriesDate")
    times = sorted(time for time in acquired if time)
    if not date or not times:
        raise _missing("AcquisitionDate and AcquisitionTime", path)
    first = _at(date, times[0], path)
    series = (text(header, "SeriesDate"), text(header, "SeriesTime"))
    started = _at(*series, path) if all(series) else first
    return min(started, first)


def _injected(injection: Dataset, scanned: datetime, path: Path) -> datetime:
    moment = text(injection, "RadiopharmaceuticalStartDateTime")
    if moment:
        parsed: datetime = _parsed(DT, moment, path)
        return parsed.replace(tzinfo=None)
    time = text(injection, "RadiopharmaceuticalStartTime")
    if not time:
        raise _missing("RadiopharmaceuticalStartTime", path)
    injected = datetime.combine(scanned.date(), _parsed(TM, time, path))
    # Without a date: an injection later than the scan was on the day before.
    return injected if injected <= scanned else injected - timedelta(days=1)


def _at(date: str, time: str, path: Path) -> datetime:
    return datetime.combine(_parsed(DA, date, path), _parsed(TM, time, path))


def _parsed(kind: Any, value: str, path: Path) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        raise FormatError(path, "a date or time in its header cannot be read, so SUV cannot be computed") from error


def _positive(place: Dataset, keyword: str, path: Path) -> float:
    try:
        value = float(place.get(keyword) or 0.0)
    except (TypeError, ValueError):
        value = 0.0
    if not value > 0:
        raise _missing(keyword, path)
    return value


def _missing(keyword: str, path: Path) -> FormatError:
    reason = f"PET needs {keyword} to become SUV, and its header has none; set `reading: {{pet: stored}}` to do without"
    return FormatError(path, reason, "unknown-units")
