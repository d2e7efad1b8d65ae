"""Headers by the thousand: the few elements that ordering a series takes, straight from a file's first bytes.

pydicom parses some hundred headers a second, as it looks at every element of a file; a hospital's
folder has hundreds of thousands. Here elements are stepped over by their lengths (PS3.5 7.1) and only
the wanted ones are handed to pydicom, unparsed. Whatever is out of the ordinary (no preamble,
big-endian or deflated data, wanted sequences of unknown length, an implausible element) is left to
pydicom's own reader.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

_CHUNK = 1 << 14
_LARGEST = 1 << 22  # bytes of header before giving up
_UNDEFINED = 0xFFFFFFFF
_PIXELS = 0x7FE00008  # the first of the pixel data elements
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SYNTAX, _CLASS = 0x00020010, 0x00020002
# Value representations with a length of four bytes (PS3.5 7.1.2).
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_TAG = struct.Struct("<HH")
_U16, _U32 = struct.Struct("<H"), struct.Struct("<I")


class _UnusualError(Exception):
    """Nothing for this reader."""


class _NeedMoreError(Exception):
    """The bytes read so far end before the header does."""


def scan_header(file: BinaryIO, wanted: frozenset[int]) -> Dataset | None:
    """The `wanted` elements before the pixels, of a file at its beginning; None where pydicom had better look itself.

    The data set has `file_meta` with the transfer syntax and the SOP class, as pydicom gives it.
    """
    head = file.read(_CHUNK)
    while True:
        try:
            return _scanned(head, wanted)
        except _UnusualError:
            return None
        except _NeedMoreError:
            more = file.read(len(head))
            if not more or len(head) > _LARGEST:
                return None
            head += more


def _scanned(head: bytes, wanted: frozenset[int]) -> Dataset:
    if head[128:132] != b"DICM":
        raise _UnusualError
    position, meta = 132, {}
    while _tag(head, position) >> 16 == 0x0002:
        tag, _, start, length = _element(head, position, explicit=True)
        position = start + length
        if tag in (_SYNTAX, _CLASS):
            meta[tag] = head[start:position].rstrip(b"\0 ").decode("ascii", "replace")
    syntax = meta.get(_SYNTAX, "")
    if not syntax or syntax in (ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        raise _UnusualError
    implicit = syntax == ImplicitVRLittleEndian
    elements = _elements(head, position, wanted, explicit=not implicit)
    dataset = Dataset(elements)
    dataset.set_original_encoding(implicit, True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    if meta.get(_CLASS):
        dataset.file_meta.MediaStorageSOPClassUID = meta[_CLASS]
    return dataset


def _elements(head: bytes, position: int, wanted: frozenset[int], explicit: bool) -> dict[BaseTag, RawDataElement]:
    found: dict[BaseTag, RawDataElement] = {}
    last = max(wanted)
    previous = 0
    while True:
        tag, vr, start, length = _element(head, position, explicit)
        if tag >= _PIXELS or tag > last:
            return found
        if tag <= previous:  # elements ascend; anything else is a sign of damage
            raise _UnusualError
        previous = tag
        if length == _UNDEFINED:
            if tag in wanted:
                raise _UnusualError
            position = _after_sequence(head, start, explicit and vr != "UN")
            continue
        position = start + length
        if tag in wanted:
            if position > len(head):
                raise _NeedMoreError
            key = BaseTag(tag)
            found[key] = RawDataElement(key, vr, length, head[start:position], start, not explicit, True)


def _tag(head: bytes, position: int) -> int:
    if position + 8 > len(head):
        raise _NeedMoreError
    group, element = _TAG.unpack_from(head, position)
    return int(group << 16 | element)


def _element(head: bytes, position: int, explicit: bool) -> tuple[int, str | None, int, int]:
    """Tag, VR (None where implicit), where the value starts, and its length in bytes."""
    tag = _tag(head, position)
    if not explicit or tag >> 16 == 0xFFFE:
        return tag, None, position + 8, _U32.unpack_from(head, position + 4)[0]
    vr = head[position + 4 : position + 6]
    if vr in _SHORT:
        return tag, vr.decode("ascii"), position + 8, _U16.unpack_from(head, position + 6)[0]
    if vr not in _LONG:
        raise _UnusualError
    if position + 12 > len(head):
        raise _NeedMoreError
    return tag, vr.decode("ascii"), position + 12, _U32.unpack_from(head, position + 8)[0]


def _after_sequence(head: bytes, position: int, explicit: bool) -> int:
    """The position after a sequence of unknown length whose items begin at `position`."""
    while True:
        tag, _, start, length = _element(head, position, explicit)
        if tag == _END_OF_SEQUENCE:
            return start
        if tag != _ITEM:
            raise _UnusualError
        position = _after_item(head, start, explicit) if length == _UNDEFINED else start + length


def _after_item(head: bytes, position: int, explicit: bool) -> int:
    while True:
        tag, vr, start, length = _element(head, position, explicit)
        if tag == _END_OF_ITEM:
            return start
        # Inside UN of unknown length everything is implicit (PS3.5 6.2.2).
        known = length != _UNDEFINED
        position = start + length if known else _after_sequence(head, start, explicit and vr != "UN")
