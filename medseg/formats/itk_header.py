"""What the headers of NRRD and MetaImage say that ITK passes over: units, unknown spaces, damaged compression.

Sources: https://teem.sourceforge.net/nrrd/format.html and https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg.core.case import Finding, Severity
from medseg.core.errors import FormatError
from medseg.formats.checks import in_short
from medseg.formats.lengths import converted, millimetres

_HEADER_BYTES = 1 << 16
_CHUNK = 1 << 22
_ZLIB_OR_GZIP = 32  # zlib's word for "find out which of the two"
_NUMBER = re.compile(r"\d")
_BODY = ("left", "right", "las", "lps", "ras")  # how the names of spaces begin that know a body


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a header, keys and words in lower case, and where in the file what follows it begins."""

    path: Path
    is_nrrd: bool
    fields: Mapping[str, str]
    end: int

    @property
    def unit(self) -> float:
        """Millimetres in one of its units of length. Raises FormatError where axes have different ones."""
        f = self.fields
        if self.is_nrrd:
            given = re.findall(r'"([^"]*)"', f.get("space units") or f.get("units") or "")
        else:
            given = [f.get("distanceunits", "")]
        units = {size for name in given if (size := millimetres(name)) is not None}
        if len(units) > 1:
            raise FormatError(self.path, f"measures its axes in different units ({', '.join(given)})", "bad-geometry")
        return units.pop() if units else 1.0

    def findings(self) -> tuple[Finding, ...]:
        """What a reader must know about its place in the world, as ITK assumes what is not there."""
        found = [*converted(self.unit)]
        if self.is_nrrd and not self.fields.get("space", "").startswith(_BODY):
            text = "the header names no anatomical space (such as LPS or RAS), so left and right are a guess"
            found.append(Finding("missing-xform", Severity.WARNING, text))
        stating = ("space directions", "spacings") if self.is_nrrd else ("elementspacing", "elementsize")
        if not any(_NUMBER.search(self.fields.get(key, "")) for key in stating):
            text = "the header states no distances between voxels; 1 mm is assumed"
            found.append(Finding("unknown-spacing", Severity.WARNING, text))
        return tuple(found)


def read_header(path: Path) -> Header:
    """The `key: value` (NRRD) or `key = value` (MetaImage) lines of a file.

    NRRD's header ends with an empty line, MetaImage's with ElementDataFile.
    """
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    fields: dict[str, str] = {}
    end = 0
    for line in head.splitlines(keepends=True):
        end += len(line)
        text = line.decode("latin-1").strip()
        if is_nrrd and not text:
            break
        key, _, value = text.partition(":" if is_nrrd else "=")
        key, value = key.strip().lower(), value.strip()
        fields[key] = value if "file" in key and value != "LOCAL" else value.lower()
        if key == "elementdatafile":
            break
    return Header(path, is_nrrd, fields, end)


def require_sound_compression(header: Header) -> None:
    """Raise FormatError where compressed pixels are damaged: their checksum says so, but ITK does not look at it."""
    f, path = header.fields, header.path
    compressed = f.get("encoding", "") in ("gzip", "gz") if header.is_nrrd else f.get("compresseddata") == "true"
    named = f.get("data file", f.get("datafile", "")) if header.is_nrrd else f.get("elementdatafile", "local")
    data = path if named in ("", "local") else path.parent / named
    # Lists and patterns of files are left to ITK.
    if not compressed or not data.is_file() or f.get("byte skip", f.get("byteskip", "0")) != "0":
        return
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | _ZLIB_OR_GZIP)
    with data.open("rb") as file:
        file.seek(header.end if data == path else 0)
        try:
            while not unpack.eof and (chunk := unpack.unconsumed_tail or file.read(_CHUNK)):
                unpack.decompress(chunk, _CHUNK)  # piece by piece: a thousand bytes may come out of each one
        except zlib.error as error:
            raise FormatError(path, f"its compressed pixels are damaged ({in_short(error)})") from error
    if not unpack.eof:
        raise FormatError(path, "its compressed pixels end too early (cut off while copying?)", "partial-file")
