"""Pictures for people: overlays, previews, training curves, grids of augmented samples. All PNG, written atomically."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import UsageError
from medseg.core.files import atomic
from medseg.core.geometry import GeometryError
from medseg.core.labels import IGNORE, Color, Label
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.montage import preview as preview
from medseg.evaluation.views import Image, Plane, View, Window, colors, orthogonal_views, structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DARK, _LIGHT, _FAINT = "#101418", "#f2f4f7", "#9aa6b5"
_FILL = 0.42
_LEGEND = 12


def overlay_picture(
    volume: Volume, prediction: LabelMap, reference: LabelMap | None, path: Path, title: str = ""
) -> None:
    """Draw prediction (filled) and reference (line) over the scan, as a PNG.

    Volumes are shown in three orthogonal planes at true proportions, the patient's right on the
    left, through the reference (or the prediction, where there is none) where it is widest; a picture
    in one. All three lie on one grid; raises GeometryError where they do not.
    """
    maps = [prediction] if reference is None else [prediction, reference]
    for labelmap in maps:
        if labelmap.geometry.shape != volume.geometry.shape:
            raise GeometryError(f"a label map of {labelmap.geometry.shape} does not lie on {volume.geometry.shape}")
    marked = [structure(labelmap) for labelmap in reversed(maps)]
    inside = next((mask for mask in marked if mask.any()), marked[0])
    views = orthogonal_views(volume, [labelmap.array for labelmap in maps], inside)
    declared = prediction.labels or (reference.labels if reference is not None else ())
    shown = _values([plane for view in views for plane in view.labels], declared)
    table = colors(declared, shown)
    figure, axes = _side_by_side(views, title)
    for axis, view in zip(axes, views, strict=True):
        _show(axis, view.image, view.size)
        _fill(axis, view.labels[0], table, view.size)
        if reference is not None:
            _outline(axis, view.labels[1], table, view.size)
        _letters(axis, view)
    _legend(figure, table, reference is not None, bool(shown))
    _save(figure, path)


def models_picture(volume: Volume, reference: LabelMap, predictions: Mapping[str, LabelMap], path: Path) -> None:
    """Draw one case as several models see it, side by side, as a PNG: each filled, the reference as a line.

    predictions: by title. Volumes are shown in the axial plane where the reference is widest. All lie on
    one grid; raises GeometryError where they do not.
    """
    maps = [reference, *predictions.values()]
    for labelmap in maps:
        if labelmap.geometry.shape != volume.geometry.shape:
            raise GeometryError(f"a label map of {labelmap.geometry.shape} does not lie on {volume.geometry.shape}")
    view = orthogonal_views(volume, [labelmap.array for labelmap in maps], structure(reference))[0]
    declared = reference.labels or maps[-1].labels
    table = colors(declared, _values(view.labels, declared))
    columns = min(len(predictions), 4)
    rows = math.ceil(len(predictions) / columns)
    across = 11.0 if columns > 1 else 5.5
    height = across / columns * min(view.size[1] / view.size[0], 2.0) + 0.35
    figure = _figure((across, rows * height + 0.5), _DARK)
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (title, plane) in zip(grid, zip(predictions, view.labels[1:], strict=True), strict=False):
        _show(axis, view.image, view.size)
        _fill(axis, plane, table, view.size)
        _outline(axis, view.labels[0], table, view.size)
        axis.set_title(title, color=_LIGHT, fontsize=10)
    for axis in list(figure.axes)[len(predictions) :]:
        axis.set_axis_off()
    _legend(figure, table, True, bool(table))
    _save(figure, path)


def training_curves(training_csv: Path, png: Path) -> None:
    """Draw loss and validation Dice over the steps of `training.csv`.

    Columns read: step, loss, validation_dice (empty where it was not measured).
    Raises UsageError where the file is missing, lacks a column or holds no step.
    """
    steps, losses, measured = _read_training(training_csv)
    figure = _figure((8.6, 3.4), "#ffffff")
    left, right = figure.subplots(1, 2)
    left.plot(steps, losses, color="#9ec9e6", linewidth=0.8, label="each step")
    left.plot(steps, _smooth(losses), color="#0b6ea8", linewidth=1.8, label="smoothed")
    left.legend(frameon=False, fontsize=8)
    left.set_ylabel("loss")
    if measured:
        places, values = zip(*measured, strict=True)
        right.plot(places, values, color="#0b8a5f", marker="o", markersize=3.5, linewidth=1.6)
        right.annotate(
            f"{values[-1]:.3f}", (places[-1], values[-1]), xytext=(0, -12), textcoords="offset points",
            ha="right", fontsize=9,
        )  # fmt: skip
    else:
        right.text(0.5, 0.5, "not measured", ha="center", va="center", color="#5b6676", transform=right.transAxes)
    right.set_ylim(0, 1.02)
    right.set_ylabel("validation Dice")
    for axis in (left, right):
        axis.set_xlabel("step")
        axis.set_xlim(0, max(steps) or 1)
        axis.grid(color="#e3e7ec", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
    _save(figure, png)


def sample_grid(
    images: Sequence[tuple[NDArray[Any], NDArray[Any]]], labels: Sequence[Label], path: Path, columns: int = 4
) -> None:
    """Draw pairs of 2D image ([rows, columns] or [rows, columns, 3]) and label [rows, columns] as a grid.

    Labels are filled and outlined in their colours, ignored pixels greyed.
    Raises UsageError where there is nothing to draw.
    """
    if not images:
        raise UsageError("there is no sample to draw")
    columns = max(1, min(columns, len(images)))
    rows = math.ceil(len(images) / columns)
    table = colors(labels, _values([label for _, label in images], labels))
    tallest = max(image.shape[0] / image.shape[1] for image, _ in images)
    figure = _figure((2.3 * columns, 2.3 * rows * min(tallest, 2.0) + 0.4), _DARK)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis, (image, label) in zip(grid.flat, images, strict=False):
        size = (float(image.shape[1]), float(image.shape[0]))
        _show(axis, _grey(image), size)
        _fill(axis, label, table, size)
        _outline(axis, label, table, size)
        if (label == IGNORE).any():
            veil = np.where(label == IGNORE, 1.0, np.nan)
            axis.imshow(veil, cmap="gray", vmin=0, vmax=1, alpha=0.35, extent=(0, size[0], size[1], 0))
    for axis in grid.flat[len(images) :]:
        axis.set_axis_off()
    _legend(figure, table, False, bool(table))
    _save(figure, path)


def _figure(size: tuple[float, float], background: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor=background)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=figure.get_facecolor())


def _side_by_side(views: Sequence[View], title: str) -> tuple[Figure, list[Axes]]:
    """A figure whose axes show all views at one scale; very thin ones get a quarter of the widest."""
    widest = max(view.size[0] for view in views)
    widths = [max(view.size[0], 0.25 * widest) for view in views]
    tallest = max(view.size[1] for view in views)
    across = 11.0 if len(views) > 1 else 6.5
    height = min(max(across * tallest / sum(widths), 1.8), 8.0)
    figure = _figure((across, height + 0.75), _DARK)
    axes = figure.subplots(1, len(views), squeeze=False, width_ratios=widths)[0]
    if title:
        figure.suptitle(title, color=_LIGHT, fontsize=12)
    return figure, list(axes)


def _show(axis: Axes, image: Image, size: tuple[float, float]) -> None:
    width, height = size
    # Few voxels are shown smoothly, as a viewer does; many are averaged, not skipped.
    smooth = "bilinear" if max(image.shape[:2]) < 400 else "antialiased"
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0), interpolation=smooth)
    axis.set_facecolor(_DARK)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _fill(axis: Axes, plane: Plane, table: Mapping[int, tuple[str, Color]], size: tuple[float, float]) -> None:
    tint = np.zeros((*plane.shape, 4), dtype=np.float32)
    for value, (_, color) in table.items():
        tint[plane == value] = (*_rgb(color), _FILL)
    axis.imshow(tint, extent=(0, size[0], size[1], 0), interpolation="nearest")


def _outline(axis: Axes, plane: Plane, table: Mapping[int, tuple[str, Color]], size: tuple[float, float]) -> None:
    width, height = size
    across = (np.arange(plane.shape[1] + 2) - 0.5) * width / plane.shape[1]
    down = (np.arange(plane.shape[0] + 2) - 0.5) * height / plane.shape[0]
    for value, (_, color) in table.items():
        mask = np.pad(plane == value, 1)  # so that lines close at the image's border
        if mask.any():
            axis.contour(across, down, mask.astype(np.float32), levels=[0.5], colors=[_rgb(color)], linewidths=1.3)
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)


def _letters(axis: Axes, view: View) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground=_DARK)]
    places = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"),
              (0.5, 0.985, "center", "top"), (0.5, 0.015, "center", "bottom"))  # fmt: skip
    for letter, (x, y, across, down) in zip(view.edges, places, strict=True):
        axis.text(
            x, y, letter, color=_LIGHT, fontsize=9, ha=across, va=down, transform=axis.transAxes, path_effects=halo
        )
    if view.name:
        axis.set_title(view.name, color=_FAINT, fontsize=9)


def _legend(figure: Figure, table: Mapping[int, tuple[str, Color]], lines: bool, found: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = []
    for name, color in list(table.values())[:_LEGEND]:
        entries.append(Patch(facecolor=_rgb(color), label=name))
    if len(table) > _LEGEND:
        entries.append(Line2D([], [], linestyle="none", label=f"and {len(table) - _LEGEND} more"))
    if lines:
        entries.append(Patch(facecolor=_FAINT, alpha=_FILL, label="filled: prediction"))
        entries.append(Line2D([], [], color=_FAINT, label="line: reference"))
    if not found:
        entries.append(Line2D([], [], linestyle="none", label="nothing marked here"))
    figure.legend(
        handles=entries, loc="outside lower center", ncols=min(len(entries), 6), frameon=False,
        labelcolor=_LIGHT, fontsize=9,
    )  # fmt: skip


def _values(planes: Sequence[Plane], labels: Sequence[Label]) -> list[int]:
    """The label values in these planes; without declared labels 255 is a value like any other."""
    found = set().union(*(np.unique(plane).tolist() for plane in planes)) - {0}
    return sorted(int(value) for value in found if not (labels and value == IGNORE))


def _grey(image: NDArray[Any]) -> Image:
    """A 2D image between its own percentiles, in 0..1."""
    stacked = np.moveaxis(image, -1, 0)[..., None] if image.ndim == 3 else image[None, ..., None]
    low, high = (float(value) for value in np.percentile(stacked, (0.5, 99.7)))
    return Window(low, high).shade(image)


def _rgb(color: Color) -> tuple[float, float, float]:
    red, green, blue = color
    return red / 255, green / 255, blue / 255


def _read_training(training_csv: Path) -> tuple[list[int], list[float], list[tuple[int, float]]]:
    try:
        with training_csv.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        steps = [int(row["step"]) for row in rows]
        losses = [float(row["loss"]) if row["loss"] else math.nan for row in rows]
        measured = [
            (int(row["step"]), float(row["validation_dice"])) for row in rows if row.get("validation_dice")
        ]  # fmt: skip
    except OSError as error:
        raise UsageError(f"{training_csv}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{training_csv}: is not medseg's log of a training (step, loss, validation_dice)") from error
    if not steps:
        raise UsageError(f"{training_csv}: holds no training step yet")
    return steps, losses, measured


def _smooth(values: Sequence[float]) -> NDArray[np.float64]:
    """Running mean over a twentieth of the run, centred; missing values (NaN) take no part."""
    given = np.asarray(values, dtype=np.float64)
    known = np.isfinite(given)
    width = min(2 * (len(given) // 40) + 1, len(given))
    window = np.ones(width)
    totals = np.convolve(np.where(known, given, 0.0), window, mode="same")
    weights = np.convolve(known.astype(np.float64), window, mode="same")
    smoothed: NDArray[np.float64] = np.divide(totals, weights, out=np.full(len(given), np.nan), where=weights > 0.5)
    return smoothed
