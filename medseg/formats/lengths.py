"""Units of length by the names under which headers write them."""

from __future__ import annotations

import unicodedata

from medseg.core.case import Finding, Severity

# As ImageJ, OME, NRRD and MetaImage have them; case tells milli from mega, so it counts in the short ones.
_MILLIMETRES = {
    "pm": 1e-9, "\u212b": 1e-7, "nm": 1e-6, "um": 1e-3, "mm": 1.0, "cm": 10.0, "dm": 100.0, "m": 1000.0,
    "in": 25.4, "inch": 25.4, "nanometer": 1e-6, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3,
    "micrometre": 1e-3, "millimeter": 1.0, "millimetre": 1.0, "centimeter": 10.0, "meter": 1000.0,
}  # fmt: skip


def millimetres(unit: str) -> float | None:
    """One of `unit` in mm; None where that is no unit of length."""
    # ImageJ writes the micro sign as an escape, others one of Unicode's two.
    name = unicodedata.normalize("NFKC", unit.replace("\\u00B5", "\u00b5")).replace("\u03bc", "u").strip()
    return _MILLIMETRES.get(name) or (_MILLIMETRES.get(name.lower()) if len(name) > 2 else None)


def converted(unit: float) -> tuple[Finding, ...]:
    """The finding that a header's lengths were turned into mm; `unit`: how many mm one of its own has."""
    if unit == 1.0:
        return ()
    text = f"lengths are in units of {unit:g} mm and were converted"
    return (Finding("converted-units", Severity.INFO, text, {"millimetres": unit}),)
