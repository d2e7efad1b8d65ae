"""Peak memory of predicting one large CT, from reading its NIfTI to the label map, for 2, 20 and 100 labels.

    python benchmarks/predict_memory.py [--classes 2 20 100] [--shape 512 512 400] [--plan-spacing 3]
    python benchmarks/predict_memory.py --outputs nifti,seg,rtstruct,sr,preview [--seg-type LABELMAP]

Networks are untrained (what is measured does not depend on the weights), the scan is generated. Every
prediction runs in a process of its own that loads the model, reads the scan and predicts it. Printed are
its peak resident size, the part of it beyond the loaded process, what `predicted_peak` says of that part,
and the seconds. Fails where a peak reaches 4 GB, a prediction is wrong by more than a quarter, or the
peaks of the several numbers of labels lie more than a tenth apart.

With --outputs the scan is a DICOM series, and what is named is written, too, in the same process. The labels of an
untrained network are dust, which no outline can follow; so what is written is a body of as many balls as there are
labels, put in the place of what was predicted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from medseg.bundle import Bundle
    from medseg.core.case import Prediction
    from medseg.core.volume import LabelMap

LIMIT_GB = 4.0
APART = 0.10
WRONG = 0.25
COLUMNS = (
    "labels", "scan", "plan spacing mm", "prepared", "windows of", "peak GB", "beyond loading GB", "predicted GB", "s"
)  # fmt: skip
OF_OUTPUTS = ("peak GB before writing", "writing s", "written MB")


def main() -> int:
    arguments = _arguments()
    if arguments.scan is not None:
        print(json.dumps(measure(arguments)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "phantom.nii"
        write_phantom(scan, tuple(arguments.shape), tuple(arguments.spacing))
        if arguments.outputs:
            scan = _as_series(scan, Path(folder) / "series")
        rows = [_in_a_process(scan, count) for count in arguments.classes]
    columns = (*COLUMNS, *OF_OUTPUTS) if arguments.outputs else COLUMNS
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    return _verdict(rows)


def _verdict(rows: list[dict[str, Any]]) -> int:
    peaks = [row["peak"] for row in rows]
    wrong = [
        row for row in rows if "writing s" not in row and not 1 - WRONG <= row["predicted"] / row["beyond"] <= 1 + WRONG
    ]
    apart = (max(peaks) - min(peaks)) / min(peaks)
    print(f"\npeaks lie {apart:.1%} apart; the highest is {max(peaks):.2f} GB; {len(wrong)} predicted wrongly")
    return int(apart > APART or max(peaks) >= LIMIT_GB or bool(wrong))


def _in_a_process(scan: Path, count: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--scan", str(scan), *sys.argv[1:], "--classes", str(count)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, Any] = json.loads(told.splitlines()[-1])
    return figures


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Load the model, read the scan, predict it, look at the process's size."""
    from medseg import formats
    from medseg.inference import Predictor
    from medseg.inference.memory import predicted_peak
    from medseg.preprocess import trace_of

    (count,) = arguments.classes
    bundle = bundle_of(count, arguments.plan_spacing, arguments.patch, arguments.features)
    predictor = Predictor(bundle, "cpu")
    loaded = _peak_gb()
    started = time.monotonic()
    (source,) = formats.discover(arguments.scan, arguments.scan.with_name("unpacked"))
    prediction = predictor.predict(formats.read(source))
    found = prediction.labelmap
    scan = prediction.scan
    seconds = time.monotonic() - started
    told = {}
    if arguments.outputs:
        told = {"peak before": round(_peak_gb(), 2), **_write(prediction, arguments)}
    peak, geometry = _peak_gb(), scan.volume.geometry
    return {
        "labels": count,
        "scan": _times(found.array.shape),
        "plan": f"{arguments.plan_spacing:g}",
        "prepared": _times(trace_of(geometry, bundle.plan).prepared.shape),
        "patch": _times(bundle.plan.patch),
        "peak": round(peak, 2),
        "beyond": round(peak - loaded, 2),
        "predicted": round(predicted_peak(geometry, bundle) / 1e9, 2),
        "seconds": round(seconds, 1),
        **told,
    }


def _write(prediction: Prediction, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write outputs of a prediction whose labels are balls; seconds and megabytes of it."""
    from medseg.batch.outputs import Wanted, targets_of, write_outputs

    shown = replace(prediction, labelmap=replace(prediction.labelmap, array=balls(prediction.labelmap)))
    kinds = frozenset(arguments.outputs.split(","))
    source = prediction.scan.source
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        targets = targets_of([source], Path(folder))[source.name]
        written = write_outputs(shown, targets, Wanted(kinds, {"task": "b"}, seg_type=arguments.seg_type))
        size = sum(output.path.stat().st_size for output in written.outputs)
    for finding in written.findings:
        print(finding.message, file=sys.stderr)
    return {"writing s": round(time.monotonic() - started, 1), "written MB": round(size / 1e6)}


def balls(labelmap: LabelMap) -> NDArray[np.uint8]:
    """As many balls as there are labels, in a lattice that fills the grid; values as the labels have them."""
    shape: tuple[int, ...] = labelmap.array.shape
    array = np.zeros(shape, dtype=np.uint8, order="F")
    values = [label.value for label in labelmap.labels]
    edge = int(np.ceil(len(values) ** (1 / 3)))
    cell = [size / edge for size in shape]
    for place, value in enumerate(values):
        lattice = (place // edge**2, place // edge % edge, place % edge)
        middle = [(at + 0.5) * size for at, size in zip(lattice, cell, strict=True)]
        box = tuple(slice(int(m - size / 2), int(m + size / 2)) for m, size in zip(middle, cell, strict=True))
        far: list[NDArray[Any]] = [
            ((np.arange(b.start, b.stop) - m) / (0.45 * size)) ** 2
            for b, m, size in zip(box, middle, cell, strict=True)
        ]
        array[box][far[0][:, None, None] + far[1][:, None] + far[2] < 1] = value
    return array


def _as_series(path: Path, folder: Path) -> Path:
    """The NIfTI as a DICOM series, which takes its place."""
    from medseg import formats
    from medseg.formats.dicom_write import write_series

    write_series(formats.read(formats.source_of(path)).volume, folder)
    path.unlink()
    return folder


def write_phantom(path: Path, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """A chest of cylinders in HU with noise, as int16, plane by plane so that little of it is in memory."""
    import nibabel

    rng = np.random.default_rng(0)
    array = np.empty(shape, dtype=np.int16, order="F")
    i, j = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2])
    body = (i[:, None] / 0.9) ** 2 + (j[None] / 0.7) ** 2 < 1
    lungs = ((np.abs(i[:, None]) - 0.45) / 0.3) ** 2 + (j[None] / 0.5) ** 2 < 1
    still = np.where(lungs, -850, np.where(body, 40, -1000)).astype(np.float32)
    for k in range(shape[2]):
        array[:, :, k] = np.round(still + rng.normal(0, 20, still.shape))
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), path)


def bundle_of(count: int, spacing: float, edge: int, features: int) -> Bundle:
    """An untrained U-Net of so many labels, at so many mm, with windows of edge³ voxels."""
    import torch

    from medseg.bundle import Bundle
    from medseg.core.plan import ChannelStats, Fingerprint, NetworkSpec, Normalization, Plan
    from medseg.core.task import parse_task
    from medseg.nets import build

    torch.manual_seed(0)
    labels = {f"label {value}": value for value in range(1, count + 1)}
    largest = {"keep_largest": ["label 1"]}
    task = parse_task({"name": "b", "modality": "CT", "labels": labels, "postprocess": largest}, "benchmark")
    stats = ChannelStats(-1000, -850, -100, -820, 130, -1024, 2000, True)
    fingerprint = Fingerprint(1, ((512, 512, 300),), ((0.8, 0.8, 1.0),), (stats,), {}, {}, 0.2)
    widths = tuple(features * 2**stage for stage in range(4))
    strides = ((1, 1, 1), *((2, 2, 2),) * 3)
    network = NetworkSpec("unet", 3, 1, count + 1, widths, strides, ((3, 3, 3),) * 4)
    normalization = (Normalization("ct", -1000, 400, -820, 130),)
    plan = Plan("b", 3, (spacing,) * 3, normalization, (edge,) * 3, 1, network)
    return Bundle(task, plan, fingerprint, build(network).state_dict())


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 20, 100], help="labels beside the background")
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 400])
    parser.add_argument("--spacing", type=float, nargs=3, default=[0.8, 0.8, 1.0], help="of the scan, mm")
    parser.add_argument("--plan-spacing", type=float, default=3.0, help="of the network, mm")
    parser.add_argument("--patch", type=int, default=64, help="edge of a window, voxels")
    parser.add_argument("--features", type=int, default=16, help="of the network's first stage")
    parser.add_argument("--outputs", help="what is written, too, of nifti,seg,rtstruct,sr,sc,preview")
    parser.add_argument("--seg-type", choices=("BINARY", "LABELMAP"), default="BINARY", help="of the DICOM SEG")
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
