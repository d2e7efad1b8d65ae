"""A folder of pictures in, objects out: label maps, tables and counts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.measure import regionprops

from medseg import formats
from medseg.batch.run import BatchOptions, predict_folder
from medseg.core.case import Outcome, Prediction, Scan, Source, Status
from medseg.core.events import silent
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.cells import cell_table, painted
from medseg.inference import Predictor
from medseg.phantoms.microscopy import paint_cells
from tests.inference.test_instances import TASK, bundle_of, scan_of

SEEDS = {"one": 0, "two": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seed in SEEDS.items():
        scan = scan_of(paint_cells(seed).labelmap.array.astype(np.int32))
        formats.write_volume(Volume(np.rint(scan.volume.array * 100), scan.volume.geometry), tmp_path / f"{name}.png")
    return tmp_path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Brightened(Predictor):
    """Pictures hold 0 to 255 and the network by hand wants 0 to 2."""

    def predict(self, scan: Scan) -> Prediction:
        volume = Volume(scan.volume.array / np.float32(100), scan.volume.geometry)
        return super().predict(Scan(scan.source, volume, scan.modality))


def test_a_folder_of_pictures_gives_numbered_objects_and_a_row_for_each(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = predict_folder(folder, Brightened(bundle_of((128, 128, 1)), "cpu"), out, BatchOptions(), silent)
    assert result.exit_code == 0
    table = rows_of(out / "cells.csv")
    counts = {row["scan"]: int(row["n_instances"]) for row in rows_of(out / "results.csv")}
    for name, seed in SEEDS.items():
        with Image.open(out / f"{name}.png") as picture:
            assert picture.mode == "I;16"
            ids = np.asarray(picture)
        own = [row for row in table if row["scan"] == name]
        assert len(own) == counts[name] == ids.max() == paint_cells(seed).labelmap.array.max()
        assert own == rows_of(out / f"{name}.cells.csv")
        for row, region in zip(own, regionprops(ids), strict=True):
            assert (int(row["id"]), int(row["area_px"]), row["label"]) == (region.label, region.area, "cell")
            assert float(row["perimeter_px"]) == pytest.approx(region.perimeter, rel=1e-5)
            assert float(row["eccentricity"]) == pytest.approx(region.eccentricity, rel=1e-4, abs=1e-4)
            assert [float(row["row"]), float(row["column"])] == pytest.approx(region.centroid, rel=1e-5)
            assert row["area_um2"] == ""
    assert [row["objects"] for row in rows_of(out / "measurements.csv")] == [str(counts[name]) for name in SEEDS]
    assert (out / "previews" / "one.png").exists()


def predicted(ids: np.ndarray, array: np.ndarray, spacing: tuple[float, float, float]) -> Prediction:
    geometry = Geometry.from_spacing(spacing, ids.shape)
    source = Source(Path("s.tif"), (Path("s.tif"),), "image", "s")
    labelmap = LabelMap((ids > 0).astype(np.uint8), geometry, TASK.label_table())
    return Prediction(labelmap, Scan(source, Volume(array, geometry)), Outcome(Status.OK), instances=ids)


def test_a_stack_has_volumes_in_cubic_micrometres_and_a_mean_for_each_channel() -> None:
    ids = np.zeros((6, 6, 4), dtype=np.int32)
    ids[1:3, 1:3, 1:3], ids[4, 4, 0] = 1, 2
    array = np.stack([np.full(ids.shape, 7.0), ids * 2.0]).astype(np.float32)
    lines = cell_table(predicted(ids, array, (0.001, 0.001, 0.002))).splitlines()
    assert lines == [
        "scan,id,label,volume_vx,volume_um3,row,column,page,mean_1,mean_2",
        "s,1,cell,8,16,1.5,1.5,1.5,7,2",
        "s,2,cell,1,2,4,4,0,7,4",
    ]


def test_no_object_gives_a_table_without_rows() -> None:
    ids = np.zeros((6, 6, 1), dtype=np.int32)
    lines = cell_table(predicted(ids, np.ones((1, 6, 6, 1), np.float32), (1, 1, 1))).splitlines()
    assert lines == ["scan,id,label,area_px,area_um2,row,column,perimeter_px,eccentricity,mean"]
    assert not painted(predicted(ids, np.ones((1, 6, 6, 1), np.float32), (1, 1, 1))).array.any()


@pytest.mark.parametrize("seed", range(3))
def test_touching_objects_are_painted_differently(seed: int) -> None:
    ids = paint_cells(seed).labelmap.array.astype(np.int32)
    shown = painted(predicted(ids, np.ones((1, *ids.shape), np.float32), (1, 1, 1)))
    assert np.array_equal(shown.array > 0, ids > 0) and shown.labels[-1].name == f"cell: {ids.max()}"
    assert len(shown.labels) <= 7
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:, 1:], np.s_[:-1, :-1])):
        touching = (ids[one] != ids[other]) & (ids[one] > 0) & (ids[other] > 0)
        assert (shown.array[one] != shown.array[other])[touching].all()
