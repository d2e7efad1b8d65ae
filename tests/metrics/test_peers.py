"""The same figures as other tools wherever definitions agree; every known difference is a test that names it.

MONAI and scikit-image are always there; MedPy, surface-distance and torchmetrics are asked where they can be imported.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import hausdorff_distance

from medseg.metrics import metric
from medseg.metrics.case import LabelMeasurements, Wanted, measure_case
from medseg.metrics.confusion import confusion
from medseg.metrics.instances import match_instances, pooled
from medseg.metrics.pooled import mean_iou

TAU = 2.0
NAMES = ("dice", "iou", "precision", "recall", "specificity", "hd", "hd95", "assd", "nsd")


@cache
def pairs() -> list[tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    """200 pairs of masks that both hold something, in 2D and 3D, with spacings as scans have them."""
    rng = np.random.default_rng(2024)
    made: list[tuple[np.ndarray, np.ndarray, tuple[float, ...]]] = []
    while len(made) < 200:
        shape = tuple(int(n) for n in rng.integers(8, 20, rng.integers(2, 4)))
        spacing = tuple(float(mm) for mm in rng.choice([0.5, 0.8, 1.0, 2.5, 5.0], len(shape)))
        common = gaussian_filter(rng.normal(size=shape), 2)
        own = [gaussian_filter(rng.normal(size=shape), 1.2) * rng.choice([0.2, 0.6]) for _ in range(2)]
        found, true = (common + noise > np.quantile(common, 0.75) for noise in own)
        if found.any() and true.any():
            made.append((found.astype(np.uint8), true.astype(np.uint8), spacing))
    return made


def ours(found: np.ndarray, true: np.ndarray, spacing: Sequence[float], names: Sequence[str] = NAMES) -> dict[str, Any]:
    measured: LabelMeasurements = measure_case(found, true, spacing, [1], Wanted(tuple(names), None, TAU)).labels[1]
    return {name: measured.figure(name) for name in names}


def _tensors(found: np.ndarray, true: np.ndarray) -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")
    return tuple(torch.from_numpy(mask.astype(np.float32))[None, None] for mask in (found, true))  # type: ignore[return-value]


def monai(found: np.ndarray, true: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    from monai import metrics as theirs

    pair, mm = _tensors(found, true), list(spacing)
    counts = theirs.get_confusion_matrix(*pair)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns of empty masks
        return {
            "dice": float(theirs.compute_dice(*pair, ignore_empty=False)),
            "iou": float(theirs.compute_iou(*pair, ignore_empty=False)),
            "precision": float(theirs.compute_confusion_matrix_metric("precision", counts)),
            "recall": float(theirs.compute_confusion_matrix_metric("sensitivity", counts)),
            "specificity": float(theirs.compute_confusion_matrix_metric("specificity", counts)),
            "hd": float(theirs.compute_hausdorff_distance(*pair, spacing=mm)),
            "hd95": float(theirs.compute_hausdorff_distance(*pair, percentile=95, spacing=mm)),
            "assd": float(theirs.compute_average_surface_distance(*pair, symmetric=True, spacing=mm)),
            "nsd": float(theirs.compute_surface_dice(*pair, [TAU], spacing=mm)),
        }


# ---- golden values --------------------------------------------------------------------------


def _ellipsoids() -> tuple[np.ndarray, np.ndarray]:
    places = np.indices((16, 40, 40))

    def ellipsoid(centre: Sequence[int], radii: Sequence[int]) -> np.ndarray:
        parts = zip(places, centre, radii, strict=True)
        return np.asarray(sum(((axis - c) / r) ** 2 for axis, c, r in parts) <= 1).astype(np.uint8)

    return ellipsoid((8, 20, 17), (5, 9, 7)), ellipsoid((8, 20, 18), (4, 7, 10))


def test_hd95_is_the_larger_direction_where_medpy_and_seg_metrics_pool_both() -> None:
    found, true = _ellipsoids()
    figures = ours(found, true, (5, 1, 1))
    assert figures["hd95"] == pytest.approx(5.0)
    assert monai(found, true, (5, 1, 1))["hd95"] == pytest.approx(5.0)
    distances = measure_case(found, true, (5, 1, 1), [1], Wanted(("hd95",))).labels[1].surfaces
    assert distances is not None
    both = np.concatenate([distances.from_predicted, distances.from_reference])
    assert np.percentile(both, 95) == pytest.approx(4.12, abs=0.005)


def test_medpy_pools_both_directions_of_hd95() -> None:
    binary = pytest.importorskip("medpy.metric.binary")
    found, true = _ellipsoids()
    assert binary.hd95(found, true, voxelspacing=(5, 1, 1)) == pytest.approx(4.12, abs=0.005)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # of scipy.ndimage.filters, which it still uses
def test_nsd_counts_surface_voxels_where_surface_distance_weighs_their_area() -> None:
    surface_distance = pytest.importorskip("surface_distance")
    found, true = _ellipsoids()
    computed = surface_distance.compute_surface_distances(true.astype(bool), found.astype(bool), (5, 1, 1))
    theirs = surface_distance.compute_surface_dice_at_tolerance(computed, TAU)
    figure = ours(found, true, (5, 1, 1), ["nsd"])["nsd"]
    assert abs(theirs - figure) > 0.005  # each surface element by its area, between voxels, instead of voxels
    assert theirs == pytest.approx(figure, abs=0.15)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_surface_distance_measures_between_voxels_and_stays_within_a_voxel_of_ours() -> None:
    surface_distance = pytest.importorskip("surface_distance")
    for found, true, spacing in [pair for pair in pairs() if len(pair[2]) == 3][:40]:
        computed = surface_distance.compute_surface_distances(true.astype(bool), found.astype(bool), spacing)
        theirs = surface_distance.compute_robust_hausdorff(computed, 95)
        assert theirs == pytest.approx(ours(found, true, spacing, ["hd95"])["hd95"], abs=np.linalg.norm(spacing))


# ---- 200 pairs ------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_all_figures_are_those_of_monai_on_200_pairs(many: int) -> None:
    for found, true, spacing in pairs()[:many]:
        theirs = monai(found, true, spacing)
        assert ours(found, true, spacing) == pytest.approx(theirs, rel=2e-6, abs=2e-6), (found.shape, spacing)


def test_hausdorff_distances_are_those_of_scikit_image_on_200_pairs() -> None:
    from scipy.ndimage import binary_erosion

    for found, true, spacing in pairs():
        edges = [mask.astype(bool) & ~binary_erosion(mask) for mask in (found, true)]  # it takes masks as points
        assert ours(found, true, [1] * len(spacing), ["hd"])["hd"] == pytest.approx(hausdorff_distance(*edges))


def test_figures_are_those_of_medpy_on_200_pairs() -> None:
    binary = pytest.importorskip("medpy.metric.binary")
    agreeing = {"dice": binary.dc, "iou": binary.jc, "precision": binary.precision, "recall": binary.recall,
                "specificity": binary.specificity}  # fmt: skip
    for found, true, spacing in pairs():
        figures = ours(found, true, spacing)
        for name, theirs in agreeing.items():
            assert figures[name] == pytest.approx(theirs(found, true)), name
        assert figures["hd"] == pytest.approx(binary.hd(found, true, voxelspacing=spacing))
        assert figures["assd"] == pytest.approx(binary.assd(found, true, voxelspacing=spacing))


# ---- empty masks ----------------------------------------------------------------------------


def _mask_and_nothing() -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((6, 8, 8), np.uint8)
    mask[2:4, 2:5, 2:5] = 1
    return mask, np.zeros_like(mask)


def test_monai_leaves_out_an_invented_structure_that_we_count_as_zero() -> None:
    from monai.metrics import compute_dice

    mask, nothing = _mask_and_nothing()
    assert np.isnan(float(compute_dice(*_tensors(mask, nothing), ignore_empty=True)))
    assert ours(mask, nothing, (1, 1, 1), ["dice"])["dice"] == 0.0


def test_monai_leaves_out_a_missed_structure_whose_hd95_is_our_diagonal() -> None:
    mask, nothing = _mask_and_nothing()
    theirs, figures = monai(nothing, mask, (5, 1, 1)), ours(nothing, mask, (5, 1, 1))
    assert not np.isfinite(theirs["hd95"])
    assert figures["hd95"] == pytest.approx(np.sqrt(30**2 + 8**2 + 8**2))
    assert figures["nsd"] == theirs["nsd"] == 0.0


def test_monai_calls_two_empty_masks_perfect_or_nan_and_we_call_them_undefined() -> None:
    _, nothing = _mask_and_nothing()
    assert set(ours(nothing, nothing, (1, 1, 1), ["dice", "iou", "hd95", "nsd"]).values()) == {None}
    assert monai(nothing, nothing, (1, 1, 1))["dice"] == 1.0


# ---- benchmarks' figures ----------------------------------------------------------------------


def test_torchmetrics_mean_iou_is_per_image_and_not_the_pooled_one_of_the_benchmarks() -> None:
    segmentation = pytest.importorskip("torchmetrics.segmentation")
    torch = pytest.importorskip("torch")
    true, found = np.zeros((2, 10, 10), np.int64), np.zeros((2, 10, 10), np.int64)
    true[0, :8], found[0, :8] = 1, 1
    true[1, 0, 0], found[1, 0, 5] = 1, 1
    theirs = segmentation.MeanIoU(num_classes=2, include_background=False, input_format="index")
    theirs.update(torch.from_numpy(found), torch.from_numpy(true))
    counts = confusion(found, true, [1], None)
    assert metric("iou")(counts.counts[1]) == pytest.approx(80 / 82)
    assert float(theirs.compute()) == pytest.approx((1 + 0) / 2)
    assert mean_iou(counts.matrix) == pytest.approx((80 / 82 + 118 / 120) / 2)


def test_instance_figures_are_those_of_monai_panoptic_quality() -> None:
    from monai.metrics import compute_panoptic_quality
    from skimage.measure import label

    torch = pytest.importorskip("torch")
    for found, true, spacing in [pair for pair in pairs() if len(pair[2]) == 2][:40]:
        maps = [label(mask).astype(np.int64) for mask in (found, true)]
        figures = pooled([match_instances(*maps, thresholds=[0.5 + 1e-9])])  # MONAI wants more than .5 of overlap
        theirs = [
            float(compute_panoptic_quality(*map(torch.from_numpy, maps), metric_name=name, match_iou_threshold=0.5))
            for name in ("pq", "rq", "sq")
        ]
        # It adds a millionth to its denominators.
        assert [figures["pq_50"], figures["rq_50"], figures["sq_50"] or 0.0] == pytest.approx(theirs, abs=1e-4), spacing
