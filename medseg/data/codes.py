"""Every finding code: what it means and what to do about it, for the inspection page and docs/inspect.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """One code in a sentence each; `group` is the part of the table where it stands."""

    group: str
    meaning: str
    remedy: str


_SERIES, _GRID, _VALUES, _FILES, _PAIRS, _DRAWN, _LABELS, _ACROSS, _MODEL, _BATCHES = (
    "DICOM series", "Grid and geometry", "Pixel values", "Files", "Images and label maps", "Drawn structures",
    "Labels", "Across cases", "Against a model", "In batches",
)  # fmt: skip

CODES: dict[str, Advice] = {
    # ---- DICOM series
    "missing-slices": Advice(
        _SERIES, "Slices are missing inside the stack; the positions are named.",
        "Fetch the series again; allow a repair in the task's `reading` only where interpolated slices will do."),
    "uneven-spacing": Advice(
        _SERIES, "The distances between slices differ.",
        "Repaired by resampling onto an even grid; predictions come back on the source slices."),
    "gantry-tilt": Advice(
        _SERIES, "The slices are sheared by a tilted gantry (degrees in the values).",
        "Repaired by resampling onto a rectangular grid; predictions come back on the source slices."),
    "shifted-slices": Advice(
        _SERIES, "Slices are shifted within their plane against their neighbours.",
        "Look at the series; it is often two acquisitions in one."),
    "duplicate-position": Advice(
        _SERIES, "Two images lie at one position.",
        "Alike ones are left out; otherwise find out which of them is meant."),
    "duplicate-file": Advice(
        _SERIES, "The same object is there more than once.", "Nothing: further copies are left out."),
    "mixed-orientation": Advice(
        _SERIES, "Images of one series point in different directions.", "Split the series, or leave it out."),
    "mixed-pixel-spacing": Advice(
        _SERIES, "Images of one series have different pixel sizes.", "Split the series, or leave it out."),
    "mixed-size": Advice(
        _SERIES, "Images of one series have different numbers of rows and columns.",
        "Split the series, or leave it out."),
    "localizer": Advice(_SERIES, "A localizer (scout), not the scan itself.", "Nothing: it is not segmented."),
    "multi-volume": Advice(
        _SERIES, "Several volumes (time points, echoes, b-values …) in one series or file.",
        "They are split where the header tells them apart; otherwise name one of them."),
    "derived": Advice(
        _SERIES, "Computed from other images, not an original acquisition.",
        "Make sure that it is the kind of image that the task is for."),
    "not-an-image": Advice(_SERIES, "A DICOM object without pixels to segment.", "Nothing: it is not segmented."),
    "unsupported-syntax": Advice(
        _SERIES, "Stored in a way that nothing here decodes.", "Convert it, or install the decoder that is named."),
    "missing-uids": Advice(
        _SERIES, "Identifiers are missing that outputs would refer to.", "Export the series again with its UIDs."),
    # ---- grid
    "unknown-spacing": Advice(
        _GRID, "The file does not say how large a voxel is.", "Write the spacing into the file."),
    "missing-geometry": Advice(
        _GRID, "Position or orientation is missing.", "Export it again from the source with its geometry."),
    "bad-geometry": Advice(
        _GRID, "The geometry cannot be (a singular matrix, a spacing of zero).", "Repair the header at its source."),
    "missing-xform": Advice(
        _GRID, "A NIfTI file with neither sform nor qform: left and right are a guess.",
        "Convert it again from DICOM."),
    "sform-qform-disagreement": Advice(
        _GRID, "The two matrices of a NIfTI file place it differently; the message says which was taken.",
        "Find out which is true, and write it into both."),
    "non-orthogonal-axes": Advice(
        _GRID, "The axes do not stand square on each other.", "Resample onto a rectangular grid."),
    "exif-orientation": Advice(
        _GRID, "A camera's note says that the picture is to be turned.",
        "Turn image and label alike and remove the note."),
    "orientation": Advice(
        _GRID, "Its axes run in another order or direction than those of most cases.",
        "Nothing: every scan is brought into one orientation. Worth a look where a converter was changed."),
    "spacing-outlier": Advice(
        _GRID, "Its voxels are far larger or smaller than those of the other (or the training) cases.",
        "Check the unit of the spacing (mm) and whether it is the same kind of scan."),
    "size-outlier": Advice(
        _GRID, "Its field of view is far larger or smaller than that of the training cases.",
        "Check that it shows the same part of the body."),
    # ---- values
    "burned-in-annotation": Advice(
        _VALUES, "The header says that text is burned into the pixels, which may name the patient.",
        "Look before it leaves the hospital; take a copy without the text."),
    "mixed-rescale": Advice(
        _VALUES, "Slices have rescale factors of their own.", "Nothing: each is rescaled by its own."),
    "color": Advice(
        _VALUES, "A colour image where intensities are needed.", "Use the original series instead of the capture."),
    "lossy": Advice(
        _VALUES, "The pixels went through lossy compression.", "Prefer the original where it exists."),
    "inverted": Advice(
        _VALUES, "Stored with dark as high (MONOCHROME1), and inverted on reading.", "Check it in the thumbnail."),
    "unknown-units": Advice(
        _VALUES, "The header does not say in which unit the values are.",
        "Check that CT is in HU and PET in SUV."),
    "converted-units": Advice(
        _VALUES, "The values were converted (such as Bq/ml to SUV); the message says how.", "Nothing."),
    "not-finite": Advice(_VALUES, "Holds NaN or infinite values.", "Export it again; repair the tool that wrote it."),
    "no-contrast": Advice(
        _VALUES, "Every voxel has one value, so there is nothing to see.", "Leave it out, or export it again."),
    "intensity-range": Advice(
        _VALUES, "Its values lie on another scale than the task, the other cases or the training cases want.",
        "Check units and rescaling (HU for CT, SUV for PET)."),
    # ---- files
    "unreadable": Advice(_FILES, "The file is damaged, or not what its name says.", "Copy or export it again."),
    "partial-file": Advice(_FILES, "The file ends too early.", "Copy it again."),
    "surplus-data": Advice(
        _FILES, "The file holds more pixels than its header describes, so one of them is wrong.",
        "Look at the picture; export the file again."),
    "missing-file": Advice(_FILES, "A file that a list names does not exist.", "Repair the list or the path."),
    # ---- pairs
    "unpaired": Advice(
        _PAIRS, "A label map without its image.", "Give both one name, or remove the orphan."),
    "unlabelled": Advice(
        _PAIRS, "An image without a label map: it cannot be learned from.", "Label it, or move it out."),
    "ambiguous": Advice(_PAIRS, "Several files claim to be one case's image or label.", "Keep one of them."),
    "duplicate-id": Advice(_PAIRS, "Two cases have one name.", "Rename one of them."),
    "grid-mismatch": Advice(
        _PAIRS, "Label map and image do not lie on one grid; the numbers of both are given.",
        "Export the label map on the image's grid, or resample it there (nearest neighbour)."),
    "wrong-channels": Advice(
        _PAIRS, "The number of channels is not the task's.", "Give one file per channel, or change the task."),
    "wrong-modality": Advice(_PAIRS, "A scan of another modality than the task's.", "Leave it out."),
    "wrong-dimensions": Advice(
        _PAIRS, "A single slice for a 3D task.", "Set `dimensions: 2` in the task, or leave it out."),
    # ---- what was drawn: RTSTRUCT, SEG, annotation tools
    "missing-structure": Advice(
        _DRAWN, "A structure that the task wants is not drawn; those that are drawn are named.",
        "Add the name to the label's `names` in the task, or draw it."),
    "overlap": Advice(
        _DRAWN, "Structures of two labels overlap; the later label keeps the voxels.",
        "Correct the drawing, or change the order of the labels in the task."),
    "off-slice": Advice(
        _DRAWN, "Contours or frames lie on no slice of the image.",
        "Check that they were drawn on this series; a part that is off is left out."),
    "outside-image": Advice(
        _DRAWN, "A structure reaches beyond the image, and was cut.", "Check that it was drawn on this series."),
    "open-contour": Advice(
        _DRAWN, "Points or open lines, which enclose nothing, were left out.", "Close the contour where one is meant."),
    "duplicate-contour": Advice(
        _DRAWN, "A contour is there twice, and counts once.", "Nothing; look where a hole was meant."),
    "unsupported-shape": Advice(
        _DRAWN, "A shape that encloses no area (point, line, cuboid …) was left out.", "Draw it as a polygon or mask."),
    "broken-shape": Advice(
        _DRAWN, "A shape that cannot be read was left out.", "Correct it in the tool that drew it."),
    "crowd": Advice(
        _DRAWN, "A COCO crowd region: a group of objects in one mask.", "Nothing, or draw the objects apart."),
    "missing-image": Advice(
        _DRAWN, "An annotation names an image that is not there.", "Put the image beside it, or correct the name."),
    # ---- labels
    "not-a-label-map": Advice(
        _LABELS, "Not a map of whole numbers (a colour picture, fractions, an image).",
        "Export the labels as whole numbers."),
    "undeclared-label": Advice(
        _LABELS, "Holds values that the task does not declare; their volumes are given.",
        "Add a label, map the values to one, or set `undeclared: background`."),
    "empty-label": Advice(_LABELS, "Holds background only.", "Label the case, or leave it out."),
    "label-in-one-case": Advice(
        _LABELS, "A label that no other case has: it cannot be both learned and validated.",
        "Most often a slip of the brush or a wrong number; otherwise label more cases."),
    "label-in-no-case": Advice(
        _LABELS, "A label of the task that no case has.", "Check the label's values in the task."),
    "label-missing": Advice(
        _LABELS, "Lacks a label that nearly all other cases have.",
        "Look whether the structure is really absent."),
    "tiny-specks": Advice(
        _LABELS, "Pieces at most three voxels across. A warning where they are many or far from the rest.",
        "Remove them, for example by keeping the largest component."),
    "sides-swapped": Advice(
        _LABELS, "Left and right labels lie on each other's side of the patient (by their centroids, RAS).",
        "Exchange the label values, or repair the orientation in the header."),
    "label-outside-body": Advice(
        _LABELS, "A label lies in the air or background around the body.",
        "Look for a label map that is flipped, shifted, or belongs to another scan."),
    "duplicate-label": Advice(
        _LABELS, "The same label map belongs to different images.", "Find out which of the images it was drawn on."),
    # ---- across cases
    "duplicate-content": Advice(
        _ACROSS, "The same voxel values as another scan, whatever the file's name or format.",
        "Keep one of them: a copy in validation makes every score too good."),
    "same-patient": Advice(
        _ACROSS, "One patient on both sides of a split (by group, or by the DICOM header; nobody is named).",
        "Put all of a patient's cases into one part: set `data.group`, or repair the split file."),
    "patients-by-name": Advice(
        _ACROSS, "The names look like several cases a patient, but every case counts as a patient.",
        "Set `data.group` in the task (or --group)."),
    "unknown-case": Advice(_ACROSS, "A split names a case that is not there.", "Repair the split file."),
    # ---- against a model
    "refused-by-model": Advice(
        _MODEL, "`medseg predict` with this model would refuse the scan, for the reason given.",
        "Use a model for such scans, or leave it out."),
    "no-seg": Advice(_MODEL, "No DICOM SEG could be written beside a prediction.", "See the reason in the message."),
    "no-rtstruct": Advice(
        _MODEL, "No RT structure set could be written beside a prediction.", "See the reason in the message."),
    "no-sr": Advice(
        _MODEL, "No structured report could be written beside a prediction.", "See the reason in the message."),
    "no-sc": Advice(
        _MODEL, "No secondary capture could be written beside a prediction.", "See the reason in the message."),
    "no-preview": Advice(_MODEL, "No preview could be drawn beside a prediction.", "See the reason in the message."),
    # ---- batches
    "not-selected": Advice(
        _BATCHES, "The task's `modality` or `selection` leaves the series out, for the reason given.",
        "Nothing, where that is right; otherwise see `selection` in docs/tasks.md."),
    "too-large": Advice(
        _BATCHES, "Predicting the scan would take more memory than --memory allows; how much is said.",
        "Allow more, or run it on a larger machine and then again with --retry refused."),
    "vanished": Advice(
        _BATCHES, "Files of the series were gone when it was its turn.",
        "Run the same command again when they are back."),
    "changed": Advice(
        _BATCHES, "Files of the series kept changing while it was computed.",
        "Run the same command again when they are at rest, or with --watch."),
    "crashed": Advice(
        _BATCHES, "The series killed its worker or took too long, in every attempt.",
        "Give it more memory or time (--timeout), then run again with --retry failed."),
}  # fmt: skip
