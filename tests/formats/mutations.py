"""Damaged copies of small valid DICOM and NIfTI files, drawn from a seed."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from numpy.random import Generator
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage, JPEG2000Lossless, RLELossless

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.formats.dicom_write import Style, write_series

SHAPE = (36, 32, 6)
PREAMBLE = 132
_LENGTHS = (0xFFFFFFFF, 0x7FFFFFFF, 0x00FFFFFF, 0, 3, 0xFFFF)


@dataclass(frozen=True)
class Damaged:
    """One damaged input: a folder with a scan of which one file was changed, and how.

    region: where the change lies: preamble (with DICOM's file meta information), header, pixels, or packed
    (compressed as a whole).
    """

    name: str
    base: str
    kind: str
    region: str
    file: Path


# ---- sound files ------------------------------------------------------------------------------


def write_bases(root: Path, real: Path | None) -> dict[str, Path]:
    """Folders with one sound scan each below `root`, by name; `real`: shared/data/dicom, where it is there."""
    affine = np.array([[-0.9, 0.1, 0, 10], [0.1, 0.9, 0, -20], [0, 0, 1.1, 5], [0, 0, 0, 1]])
    array = np.random.default_rng(0).normal(60, 15, (1, *SHAPE)).clip(0).round().astype(np.float32)
    volume = Volume(array, Geometry(affine, SHAPE))
    styles = {
        "explicit": Style(),
        "implicit": Style(signed=False, syntax="implicit"),
        "big endian": Style(syntax="big endian"),
        "deflated": Style(syntax="deflated"),
        "per slice": Style(per_slice=True),
    }
    bases = {}
    for name, style in styles.items():
        bases[f"dicom {name}"] = root / name
        write_series(volume, root / name, name, modality="MR", style=style)
    for name, syntax in (("rle", RLELossless), ("j2k", JPEG2000Lossless)):
        bases[f"dicom {name}"] = root / name
        write_series(volume, root / name, name, modality="MR")
        for path in (root / name).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax)
            dataset.save_as(path)
    bases["dicom enhanced"] = _write_enhanced(bases["dicom explicit"], root / "enhanced")
    bases |= _write_nifti(array[0], affine, root)
    if real is not None:
        for name, place in _REAL.items():
            bases[f"dicom {name}"] = root / name
            shutil.copytree(real / place, root / name, copy_function=shutil.copyfile)
    return bases


_REAL = {
    "real jpeg": "odd/generic/compressed_jpeg/001",
    "real jpegls": "odd/generic/compressed_jpegls/001",
    "real enhanced": "odd/hyperfine/anatomical/001",
    "real small": "odd/generic/anatomical/002_non_isotropic",
}


def _write_enhanced(series: Path, folder: Path) -> Path:
    """The series as one enhanced multi-frame object (PS3.3 A.36)."""
    slices = sorted((pydicom.dcmread(path) for path in series.iterdir()), key=lambda s: s.ImagePositionPatient[2])
    whole = slices[0]
    frames, shared = [], Dataset()
    for one in slices:
        item, position = Dataset(), Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        item.PlanePositionSequence = [position]
        frames.append(item)
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = whole.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = whole.PixelSpacing, whole.SliceThickness
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    whole.PixelData = b"".join(one.PixelData for one in slices)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(whole, keyword)
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    whole.NumberOfFrames = len(slices)
    whole.SharedFunctionalGroupsSequence, whole.PerFrameFunctionalGroupsSequence = [shared], frames
    folder.mkdir()
    whole.save_as(folder / "enhanced.dcm")
    return folder


def _write_nifti(array: np.ndarray, affine: np.ndarray, root: Path) -> dict[str, Path]:
    bases = {}
    for name, kind, values in (
        ("int16.nii", nibabel.Nifti1Image, array.astype(np.int16)),
        ("float.nii.gz", nibabel.Nifti1Image, array / 3),
        ("second.nii", nibabel.Nifti2Image, array.astype(np.uint8)),
        ("packed.nii.gz", nibabel.Nifti1Image, array.astype(np.int16)),
    ):
        bases[f"nifti {name}"] = folder = root / name.replace(".", " ")
        folder.mkdir()
        image = kind(values, affine)
        image.set_qform(affine, code=1)
        nibabel.save(image, folder / name)
    return bases


# ---- damage -----------------------------------------------------------------------------------


def damaged_copies(bases: dict[str, Path], root: Path, count: int, seed: int) -> Iterator[Damaged]:
    """`count` damaged copies below `root`, half of them DICOM, half NIfTI; the same for the same seed and bases."""
    random = np.random.default_rng(seed)
    families = [sorted(name for name in bases if name.startswith(family)) for family in ("dicom", "nifti")]
    for number in range(count):
        names = families[number % 2]
        base = names[(number // 2) % len(names)]
        folder = root / f"{number:04d}"
        shutil.copytree(bases[base], folder)
        file = sorted(folder.iterdir())[int(random.integers(len(list(folder.iterdir()))))]
        kind, region = (_spoil_dicom if number % 2 == 0 else _spoil_nifti)(file, random)
        yield Damaged(folder.name, base, kind, region, file)


def _spoil_dicom(path: Path, random: Generator) -> tuple[str, str]:
    data = path.read_bytes()
    elements = _elements(path)
    start, pixels = elements.pop("data set"), elements.pop("pixels")
    syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    packed = syntax.is_deflated
    kind = str(random.choice(["flips", "truncation", "value", "length", "flips"]))
    if kind == "length" and packed:
        kind = "flips"
    if kind == "value":
        return _spoil_value(path, random), "header"
    if kind == "length":
        place = int(random.choice(list(elements.values())))
        order = "<u4" if syntax.is_little_endian else ">u4"
        wide = np.array([int(random.choice(_LENGTHS))], order).tobytes()
        path.write_bytes(data[:place] + wide + data[place + 4 :])
        return kind, "header"
    damaged, region = _bytes_spoiled(data, kind, (start, pixels), random)
    path.write_bytes(damaged)
    return kind, "packed" if packed and region != "preamble" else region


def _elements(path: Path) -> dict[str, int]:
    """By tag, where the four bytes lie that end in an element's length; where data set and pixels begin."""
    meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
    syntax = meta.TransferSyntaxUID
    start = PREAMBLE + 12 + int(meta.FileMetaInformationGroupLength)
    if syntax.is_deflated:
        return {"data set": start, "pixels": path.stat().st_size}
    places = {"data set": start}
    with path.open("rb") as file:
        file.seek(start)
        for element in data_element_generator(file, syntax.is_implicit_VR, syntax.is_little_endian):
            value = element.file_tell if isinstance(element, DataElement) else element.value_tell
            if element.tag == 0x7FE00010:
                places["pixels"] = value
                break
            places[str(element.tag)] = value - 4
    return places


_VALUES: tuple[tuple[str, str, tuple[object, ...]], ...] = (
    ("Rows", "US", (65535, 0, 1, 19)),
    ("Columns", "US", (65535, 0, 1, 30000)),
    ("NumberOfFrames", "IS", (b"999999999", b"0", b"-1", b"2", b"many")),
    ("BitsAllocated", "US", (0, 1, 7, 8, 32, 64, 65535)),
    ("BitsStored", "US", (0, 17, 65535)),
    ("HighBit", "US", (0, 40000)),
    ("SamplesPerPixel", "US", (0, 3, 255)),
    ("PixelSpacing", "DS", (b"0\\0", b"1e30\\1e30", b"nan\\nan", b"-1\\1", b"1", b"\\")),
    ("SliceThickness", "DS", (b"0", b"1e38", b"-1", b"inf")),
    ("ImagePositionPatient", "DS", (b"nan\\0\\0", b"1e38\\0\\0", b"0\\0", b"", b"0\\0\\0")),
    ("ImageOrientationPatient", "DS", (b"0\\0\\0\\0\\0\\0", b"1\\0\\0\\1\\0\\0", b"nan\\0\\0\\0\\1\\0", b"1\\0")),
    ("RescaleSlope", "DS", (b"0", b"nan", b"1e38", b"-1", b"x")),
    ("RescaleIntercept", "DS", (b"inf", b"1e38", b"--")),
    ("PhotometricInterpretation", "CS", (b"RGB ", b"MONOCHROME1 ", b"PALETTE COLOR ", b"\xff\xff")),
    ("PixelRepresentation", "US", (1, 0, 7)),
    ("PixelPaddingValue", "US", (0, 65535)),
    ("Modality", "CS", (b"", b"SEG ", b"CT")),
    ("ImageType", "CS", (b"ORIGINAL\\PRIMARY\\LOCALIZER ", b"\\\\\\")),
    ("SeriesInstanceUID", "UI", (b"", b"1.2.3", b"../../../../etc/passwd")),
    ("SOPClassUID", "UI", (b"1.2.840.10008.1.3.10", b"9.9.9", b"")),
)


def _spoil_value(path: Path, random: Generator) -> str:
    """Write an absurd value into an element, as bytes that no check of pydicom's sees."""
    keyword, vr, values = _VALUES[int(random.integers(len(_VALUES)))]
    value = values[int(random.integers(len(values)))]
    dataset = pydicom.dcmread(path)
    order = "<H" if dataset.original_encoding[1] else ">H"
    raw = value if isinstance(value, bytes) else np.array(value, order).tobytes()
    tag = pydicom.datadict.tag_for_keyword(keyword) or 0
    raw += b" " * (len(raw) % 2)
    implicit, little = dataset.original_encoding
    dataset._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(raw), raw, 0, bool(implicit), bool(little), True)
    dataset.save_as(path)
    return f"value of {keyword}"


def _spoil_nifti(path: Path, random: Generator) -> tuple[str, str]:
    data = path.read_bytes()
    gz = path.suffix == ".gz"
    plain = gzip.decompress(data) if gz else data
    second = plain[:4] == (540).to_bytes(4, "little")
    start = 544 if second else 352
    kind = str(random.choice(["flips", "truncation", "value", "packed flips" if gz else "flips"]))
    if kind == "packed flips":
        damaged, _ = _bytes_spoiled(data, "flips", (0, 0), random)
        path.write_bytes(damaged)
        return kind, "packed"
    if kind == "truncation" and gz and random.random() < 0.5:
        path.write_bytes(data[: int(random.integers(1, len(data)))])
        return kind, "packed"
    region = "header"
    if kind == "value":
        field, plain = _nifti_value(plain, second, random)
        kind = f"value of {field}"
    else:
        plain, region = _bytes_spoiled(plain, kind, (start if kind == "truncation" else 4, start), random)
    path.write_bytes(gzip.compress(plain, mtime=0) if gz else plain)
    return kind, region


_FIELDS: tuple[tuple[str, Callable[[Generator], object]], ...] = (
    ("dim", lambda r: [int(v) for v in r.choice([32767, -1, 0, 1, 2, 300], 8)]),
    ("dim", lambda r: [3, 36, 32, int(r.choice([30000, 7, 5, 0])), 1, 1, 1, 1]),
    ("dim", lambda r: [int(r.choice([0, 1, 4, 5, 7, 8, 200])), 36, 32, 6, 1, 3, 1, 1]),
    ("datatype", lambda r: int(r.choice([0, 1, 2, 8, 16, 32, 64, 128, 256, 512, 1024, 1536, 2048, 9999]))),
    ("bitpix", lambda r: int(r.choice([0, 8, 12, 64]))),
    ("vox_offset", lambda r: float(r.choice([0, 348, 360, 1e6, 1e18]))),
    ("scl_slope", lambda r: float(r.choice([np.nan, np.inf, 0, 1e38, -1]))),
    ("scl_inter", lambda r: float(r.choice([np.nan, np.inf, 1e38]))),
    ("pixdim", lambda r: [float(v) for v in r.choice([0, np.nan, 1e30, -1, 1], 8)]),
    ("srow_x", lambda r: [float(v) for v in r.choice([0, np.nan, 1e30, -1e-30], 4)]),
    ("srow_z", lambda r: [0.0, 0.0, float(r.choice([1e7, 1e-7, 0, -1, 50])), 0.0]),
    ("quatern_b", lambda r: float(r.choice([5, np.nan, 0.7]))),
    ("sform_code", lambda r: int(r.choice([0, 9, -3]))),
    ("xyzt_units", lambda r: int(r.choice([1, 3, 5, 255]))),
    ("magic", lambda r: [b"ni1", b"n+1", b"xxx"][int(r.integers(3))]),
)


def _nifti_value(data: bytes, second: bool, random: Generator) -> tuple[str, bytes]:
    """One absurd field in a header, without the library's own checks."""
    kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    size = kind.template_dtype.itemsize
    header = np.frombuffer(bytearray(data[:size]), kind.template_dtype).copy()
    field, draw = _FIELDS[int(random.integers(len(_FIELDS)))]
    with np.errstate(all="ignore"):
        header[field] = draw(random)
    return field, header.tobytes() + data[size:]


def _bytes_spoiled(data: bytes, kind: str, header: tuple[int, int], random: Generator) -> tuple[bytes, str]:
    """Flip a few bytes, or cut the end off; most damage goes to the header, little to what comes before it."""
    start, end = header
    where = random.choice(["preamble", "header", "header", "header", "pixels"], p=[0.08, 0.25, 0.25, 0.22, 0.2])
    low, high = {"preamble": (0, start), "header": (start, end), "pixels": (end, len(data))}[str(where)]
    if low >= high:
        where, low, high = "pixels", end, len(data)
    if low >= high:
        where, low, high = "header", start, len(data)
    if kind == "truncation":
        return data[: int(random.integers(max(low, start), max(high, start + 1)))], str(where)
    spoiled = bytearray(data)
    for place in random.integers(low, high, int(random.choice([1, 2, 4, 16]))):
        spoiled[int(place)] ^= int(random.integers(1, 256))
    return bytes(spoiled), str(where)
