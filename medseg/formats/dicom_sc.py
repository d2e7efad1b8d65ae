"""Writing pictures as a Multi-frame True Color Secondary Capture (PS3.3 A.8.4), for archives that show nothing else.

Frames are compressed as JPEG baseline, which every archive and viewer knows: a capture is for the eye,
and 64 frames of 512 x 512 pixels would take 50 MB as they are. A capture has no place in the body.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import JPEGBaseline8Bit, MultiFrameTrueColorSecondaryCaptureImageStorage

from medseg.core.errors import FormatError
from medseg.core.version import VERSION
from medseg.formats.dicom_derived import LONG, MANUFACTURER, Derived, algorithm, new_object, parameters, task_name
from medseg.formats.dicom_frames import text
from medseg.formats.quiet import quiet

MOST_FRAMES = 64

_SERIES_NUMBER = 303
_QUALITY = 92
_CHROMA_422 = 1  # Pillow's number for it, which DICOM calls YBR_FULL_422
_COMMENT = 10240


def capture(derived: Derived, frames: Sequence[NDArray[np.uint8]]) -> Dataset:
    """The capture object. frames: pictures [rows, columns, 3] (red, green, blue) of one size, in order.

    Raises FormatError: no-sc where there is no frame, or too many; burned-in-annotation where the
    patient is to be left out, but the source's header says that text is burned into its pixels.
    """
    if not 1 <= len(frames) <= MOST_FRAMES:
        raise FormatError(derived.source.path, f"a capture holds 1 to {MOST_FRAMES} frames, not {len(frames)}", "no-sc")
    burned = text(derived.first, "BurnedInAnnotation") == "YES"
    if burned and text(derived.first, "PatientIdentityRemoved") == "YES":
        reason = "its header says that text is burned into the pixels, which may name the patient"
        raise FormatError(derived.source.path, reason, "burned-in-annotation")
    with quiet():
        made = new_object(
            derived,
            MultiFrameTrueColorSecondaryCaptureImageStorage,
            _SERIES_NUMBER,
            JPEGBaseline8Bit,
            modality="OT",
            series_description=f"medseg {task_name(derived)} (pictures)"[:LONG],
        )
        _describe(made, derived, burned)
        _pixels(made, frames)
        return made


def _describe(made: Dataset, derived: Derived, burned: bool) -> None:
    made.ConversionType = "WSD"
    made.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    made.SecondaryCaptureDeviceManufacturerModelName = MANUFACTURER
    made.SecondaryCaptureDeviceSoftwareVersions = VERSION
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.DerivationDescription = f"Segmentation by medseg {VERSION}, not for diagnosis"
    made.ImageComments = f"{parameters(derived)}"[:_COMMENT]
    made.BurnedInAnnotation = "YES" if burned else "NO"
    made.PatientOrientation = ""
    _place_in_the_body(made, derived.first)
    made.ContributingEquipmentSequence = [_equipment(derived)]


def _place_in_the_body(made: Dataset, image: Dataset) -> None:
    """What the source says of body part and side; a side may be unknown (empty), but unpaired parts have none."""
    part = text(image, "BodyPartExamined")
    if part:
        made.BodyPartExamined = part
    if "Laterality" in image or not part:
        made.Laterality = text(image, "Laterality")


def _equipment(derived: Derived) -> Dataset:
    """The program that made it, with its algorithm (PS3.3 C.12.1.1.5)."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_purpose()]
    item.Manufacturer = item.ManufacturerModelName = MANUFACTURER
    item.SoftwareVersions = VERSION
    item.ContributionDescription = parameters(derived)[:1024]
    item.AlgorithmIdentificationSequence = algorithm(derived)
    return item


def _purpose() -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "109102", "DCM", "Processing Equipment"
    return code


def _pixels(made: Dataset, frames: Sequence[NDArray[np.uint8]]) -> None:
    coded = [_jpeg(frame) for frame in frames]
    made.NumberOfFrames = len(frames)
    made.Rows, made.Columns = frames[0].shape[:2]
    if len(frames) > 1:
        made.PageNumberVector = list(range(1, len(frames) + 1))
        made.FrameIncrementPointer = Tag("PageNumberVector")
    made.SamplesPerPixel, made.PlanarConfiguration = 3, 0
    made.PhotometricInterpretation = "YBR_FULL_422"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.LossyImageCompression = "01"
    made.LossyImageCompressionMethod = "ISO_10918_1"
    made.LossyImageCompressionRatio = round(sum(frame.nbytes for frame in frames) / sum(map(len, coded)), 2)
    made.PixelData = encapsulate(coded)
    made["PixelData"].is_undefined_length = True


def _jpeg(frame: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, format="JPEG", quality=_QUALITY, subsampling=_CHROMA_422)
    return file.getvalue()
