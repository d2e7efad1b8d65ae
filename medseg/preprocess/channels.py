"""A scan's channels as the task wants them: colour to grey, grey to colour, transparency dropped."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Scan
from medseg.core.errors import FormatError
from medseg.core.task import Task
from medseg.core.volume import Volume

# ITU-R BT.601 luma, what pillow and scanners' own viewers use for grey.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

# Formats whose several channels are colours, in the order red, green, blue(, alpha) or grey(, alpha).
_COLOR_FORMATS = ("image", "dicom")
_COLOR_MODALITIES = ("microscopy", "photo", "other")


def fit_channels(scan: Scan, task: Task) -> Scan:
    """The scan with as many channels as the task has.

    Transparency is dropped, colour becomes grey for a task with one channel, grey is repeated for a
    task with three colour channels. Raises FormatError naming the file where the channels cannot
    be fitted, or a colour image from DICOM meets a task on volumes.
    """
    if task.dimensions == 3 and any(finding.code == "color" for finding in scan.findings):
        reason = f"is a colour image, which holds no intensities of a scanner for the volumes of task {task.name!r}"
        raise FormatError(scan.source.path, reason, code="color")
    wanted, given = len(task.channels), scan.volume.channels
    if given == wanted:
        return scan
    array = _fitted(scan, task)
    if array is None:
        names = ", ".join(task.channels)
        raise FormatError(
            scan.source.path,
            f"has {given} channel{'s' if given > 1 else ''}, but task {task.name!r} needs {wanted} ({names});"
            " give one file per channel, or another task",
            code="wrong-channels",
        )
    return dataclasses.replace(scan, volume=Volume(array, scan.volume.geometry))


def _fitted(scan: Scan, task: Task) -> NDArray[np.float32] | None:
    array, wanted = scan.volume.array, len(task.channels)
    if len(array) > 1 and scan.source.format not in _COLOR_FORMATS:
        return None
    if len(array) in (2, 4):
        array = array[:-1]
    if len(array) == wanted:
        return array
    if len(array) == 3 and wanted == 1:
        return np.tensordot(_LUMA, array.astype(np.float32, copy=False), axes=1)[None]
    if len(array) == 1 and wanted == 3 and task.modality in _COLOR_MODALITIES:
        return np.repeat(array, 3, axis=0)
    return None
