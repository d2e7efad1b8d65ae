"""Pictures: orientation, proportions and windows are checked by number, files by what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.core.errors import UsageError
from medseg.core.geometry import Geometry, GeometryError
from medseg.core.labels import IGNORE, Label
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.montage import preview
from medseg.evaluation.pictures import overlay_picture, sample_grid, training_curves
from medseg.evaluation.views import axial_slice, canonical, orthogonal_views, widest_slices, window

RED = Label("lesion", 1, color=(255, 0, 0))
LPS = np.diag([-1.0, -2.0, 3.0, 1.0])


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def _reddish(path: Path) -> int:
    red, green, blue = np.moveaxis(_pixels(path), -1, 0)
    return int(((red > green + 40) & (red > blue + 40)).sum())


def _scan(affine: np.ndarray = LPS, shape: tuple[int, int, int] = (20, 16, 12)) -> tuple[Volume, LabelMap]:
    rng = np.random.default_rng(0)
    geometry = Geometry(affine, shape)
    labels = np.zeros(shape, np.uint8)
    labels[4:10, 5:11, 3:9] = 1
    return Volume(rng.normal(100, 10, (1, *shape)).astype(np.float32), geometry), LabelMap(labels, geometry, (RED,))


@pytest.mark.parametrize("affine", [LPS, np.eye(4)[[1, 2, 0, 3]] * [[1], [-2], [3], [1]], np.diag([1.0, -1, -1, 1])])
def test_an_axial_slice_shows_the_front_at_the_top_and_the_right_on_the_left(affine: np.ndarray) -> None:
    geometry = Geometry(affine, (6, 7, 8))
    world = np.moveaxis(geometry.to_world(np.indices((6, 7, 8)).reshape(3, -1).T).reshape(6, 7, 8, 3), -1, 0)
    shown = axial_slice(canonical(world, geometry), 2)  # [xyz, rows, columns]
    assert (np.diff(shown[1], axis=0) < 0).all()  # y falls from front to back
    assert (np.diff(shown[0], axis=1) < 0).all()  # x falls from the patient's right to the left


def test_views_have_true_proportions_and_name_their_edges() -> None:
    volume, labelmap = _scan(np.diag([1.0, 2.0, 3.0, 1.0]), (30, 30, 30))
    whole = np.ones(volume.geometry.shape, bool)
    views = {view.name: view for view in orthogonal_views(volume, [labelmap.array], whole)}
    assert {name: view.size for name, view in views.items()} == {
        "axial": (30, 60),
        "coronal": (30, 90),
        "sagittal": (60, 90),
    }
    assert views["sagittal"].edges == ("A", "P", "S", "I")
    assert views["axial"].image.shape == (30, 30)


def test_small_structures_are_enlarged_and_stay_inside() -> None:
    volume, _ = _scan(np.diag([1.0, 1.0, 1.0, 1.0]), (60, 60, 60))
    inside = np.zeros((60, 60, 60), bool)
    inside[1:4, 30:34, 57:60] = True
    for view in orthogonal_views(volume, [inside.astype(np.uint8)], inside):
        assert max(view.size) == 20
        assert view.labels[0].sum() >= 9


def test_slices_go_through_the_widest_part() -> None:
    inside = np.zeros((9, 9, 9), bool)
    inside[2, 1:8, 4] = True
    inside[1:5, 6, 4] = True
    assert widest_slices(inside) == (2, 6, 4)
    assert widest_slices(np.zeros((5, 6, 7), bool)) == (2, 3, 3)


def test_windows() -> None:
    geometry = Geometry.from_spacing((1, 1, 1), (10, 10, 10))
    ct = np.full((1, 10, 10, 10), -1000.0, np.float32)
    ct[:, 3:] = 40
    air = np.zeros((10, 10, 10), bool)
    air[:3] = True
    lung, soft = window(Volume(ct, geometry), air), window(Volume(ct, geometry), ~air)
    assert (lung.low, lung.high) == (-1350, 150)
    assert (soft.low, soft.high) == (-160, 240)
    ramp = np.linspace(5, 15, 1000, dtype=np.float32).reshape(1, 10, 10, 10)
    mr = window(Volume(ramp, geometry), air)
    assert mr.low == pytest.approx(5.05, abs=0.02) and mr.high == pytest.approx(14.97, abs=0.02)
    flat = window(Volume(np.full_like(ramp, 3), geometry))
    assert np.isfinite(flat.shade(ramp)).all()


def test_three_channels_are_colours_only_where_they_can_be() -> None:
    picture = Geometry.from_spacing((1, 1, 1), (8, 8, 1))
    rgb = np.full((3, 8, 8, 1), 200, np.float32)
    assert window(Volume(rgb, picture)).color
    assert not window(Volume(rgb + 0.5, picture)).color
    dark = window(Volume(rgb / 10, picture))
    assert dark.color and dark.high == pytest.approx(22)


def test_overlay_shows_prediction_and_reference(tmp_path: Path) -> None:
    volume, labelmap = _scan()
    empty = LabelMap(np.zeros_like(labelmap.array), labelmap.geometry, (RED,))
    overlay_picture(volume, empty, None, tmp_path / "none.png")
    overlay_picture(volume, empty, labelmap, tmp_path / "line.png", "case")
    overlay_picture(volume, labelmap, labelmap, tmp_path / "both.png", "case")
    found = [_reddish(tmp_path / name) for name in ("none.png", "line.png", "both.png")]
    assert found[0] == 0 < found[1] < found[2]
    assert list(tmp_path.glob(".medseg*")) == []


def test_overlay_of_thin_volumes_and_full_masks(tmp_path: Path) -> None:
    for shape in ((20, 16, 1), (1, 16, 12), (1, 1, 5)):
        volume, labelmap = _scan(LPS, shape)
        full = LabelMap(np.ones(shape, np.uint8), labelmap.geometry, (RED,))
        overlay_picture(volume, full, full, tmp_path / "full.png")
        assert _reddish(tmp_path / "full.png") > 100


def test_maps_on_another_grid_are_refused(tmp_path: Path) -> None:
    volume, labelmap = _scan()
    _, other = _scan(LPS, (20, 16, 11))
    with pytest.raises(GeometryError, match="does not lie on"):
        overlay_picture(volume, labelmap, other, tmp_path / "x.png")
    with pytest.raises(GeometryError, match="does not lie on"):
        preview(volume, other, tmp_path / "x.png")


def test_preview_of_a_volume_a_picture_and_nothing(tmp_path: Path) -> None:
    volume, labelmap = _scan()
    preview(volume, labelmap, tmp_path / "volume.png")
    assert _reddish(tmp_path / "volume.png") > 500
    preview(volume, LabelMap(labelmap.array * 0, labelmap.geometry, (RED,)), tmp_path / "none.png")
    assert _reddish(tmp_path / "none.png") == 0
    geometry = Geometry.from_spacing((1, 1, 1), (40, 60, 1))
    marked = np.zeros((40, 60, 1), np.uint8)
    marked[:10, 30:] = 1  # rows run down: the upper right quarter's top
    preview(
        Volume(np.zeros((3, 40, 60, 1), np.float32), geometry), LabelMap(marked, geometry, (RED,)), tmp_path / "p.png"
    )
    red = _pixels(tmp_path / "p.png")[:280, :, 0] > 60
    rows, columns = np.nonzero(red)
    assert rows.max() < 80 and columns.min() > 200


def test_preview_of_a_large_noisy_scan_is_small(tmp_path: Path) -> None:
    shape = (256, 256, 24)
    geometry = Geometry(np.diag([-0.7, -0.7, 5, 1]), shape)
    noise = np.random.default_rng(0).integers(-1000, 1000, (1, *shape)).astype(np.float32)
    marked = np.zeros(shape, np.uint8)
    marked[50:90, 60:90, 4:20] = 1
    preview(Volume(noise, geometry), LabelMap(marked, geometry, (RED,)), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size <= 150_000


def test_many_instances_without_names(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((1, 1, 1), (30, 30, 1))
    instances = np.arange(900, dtype=np.int32).reshape(30, 30, 1) // 30
    volume = Volume(np.zeros((1, 30, 30, 1), np.float32), geometry)
    preview(volume, LabelMap(instances, geometry), tmp_path / "p.png")
    overlay_picture(volume, LabelMap(instances, geometry), None, tmp_path / "o.png")
    assert _pixels(tmp_path / "o.png").std() > 0 and _pixels(tmp_path / "p.png").std() > 0


def test_training_curves(tmp_path: Path) -> None:
    log = tmp_path / "training.csv"
    header = "step,epoch,seconds,progress,learning_rate,loss,validation_dice\n"
    log.write_text(header + "1,0,0.1,0.1,0.01,1.5,\n2,0,0.2,0.2,0.01,nan,0.5\n3,0,0.3,0.3,0.01,1.2,\n")
    training_curves(log, tmp_path / "curves.png")
    assert _pixels(tmp_path / "curves.png").shape[1] > 600
    log.write_text(header + "1,0,0.1,0.1,0.01,1.5,\n")
    training_curves(log, tmp_path / "curves.png")
    for text, said in ((header, "no training step"), ("a,b\n1,2\n", "not medseg's log"), (header + "x,,,,,,\n", "log")):
        log.write_text(text)
        with pytest.raises(UsageError, match=said):
            training_curves(log, tmp_path / "no.png")
    with pytest.raises(UsageError, match="cannot be read"):
        training_curves(tmp_path / "nowhere.csv", tmp_path / "no.png")
    assert not (tmp_path / "no.png").exists()


def test_sample_grid(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.zeros((20, 30), np.uint8)
    label[5:15, 5:15], label[:3] = 1, IGNORE
    pairs = [(rng.random((20, 30)), label), (rng.random((20, 30, 3)), label), (rng.random((20, 30)), label * 0)]
    sample_grid(pairs, (RED,), tmp_path / "grid.png", columns=2)
    assert _reddish(tmp_path / "grid.png") > 500
    with pytest.raises(UsageError, match="no sample"):
        sample_grid([], (RED,), tmp_path / "none.png")
