"""Fingerprint, cache and sampler on tiny cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medseg.core.errors import FormatError, UsageError
from medseg.core.events import Progress
from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE
from medseg.core.plan import NetworkSpec, Normalization, Plan
from medseg.data.cache import PreparedCase, prepare_cases
from medseg.data.fingerprint import fingerprint
from medseg.data.layouts import find_cases
from medseg.data.sampler import draw_case, draw_center


@pytest.fixture
def plan() -> Plan:
    network = NetworkSpec("unet", 3, 1, 2, (4,), ((1, 1, 1),), ((3, 3, 3),))
    return Plan("tiny", 3, (1.0, 1.0, 1.0), (Normalization("ct", -100, 100, 0, 50),), (4, 4, 4), 2, network)


@pytest.fixture
def two(tmp_path, write, blob):
    """Two cases of the same content on turned axes: a is RAS, b runs along (P, S, L)."""
    image = np.arange(120).reshape(6, 5, 4) - 50
    geometry = Geometry.from_spacing((1, 1, 2), blob.shape)
    axes, flips = (1, 2, 0), (True, False, True)
    for name, values in (("images/{}.nii.gz", image), ("labels/{}.nii.gz", blob)):
        write(name.format("a"), values, geometry=geometry)
        write(name.format("b"), values.transpose(axes)[::-1, :, ::-1], geometry=geometry.reordered(axes, flips))
    return tmp_path, image, blob.astype(bool)


def test_fingerprint_in_canonical_axes(two, task):
    root, image, inside = two
    cases = find_cases(task(), root).cases
    events = []
    prints = fingerprint(cases, task(), events.append)
    assert prints.n_cases == 2 and prints.shapes == ((6, 5, 4),) * 2
    assert np.allclose(prints.spacings, [(1, 1, 2)] * 2)
    stats = prints.channels[0]
    assert stats.mean == pytest.approx(image[inside].mean()) and stats.std == pytest.approx(image[inside].std())
    assert stats.p500 == np.median(image[inside]) and (stats.minimum, stats.maximum) == (-50, 69)
    assert stats.integral
    assert prints.label_voxels == {"blob": 8.0}
    assert prints.label_volumes_ml["blob"] == pytest.approx((0.016,) * 3)
    assert prints.foreground_fraction == pytest.approx(8 / 120)
    assert events[-1] == Progress("measuring the cases", 2, 2)
    assert fingerprint(cases[::-1], task()) == prints
    with pytest.raises(UsageError):
        fingerprint([], task())


def test_fingerprint_leaves_ignored_voxels_and_absent_labels_out(tmp_path, write, task, blob):
    ignored = blob.copy()
    ignored[0] = 9
    write("images/a.nii.gz", 10 * blob + 5)
    write("labels/a.nii.gz", ignored)
    given = task(ignore=9, labels={"blob": 1, "other": 2})
    prints = fingerprint(find_cases(given, tmp_path).cases, given)
    assert prints.label_voxels == {"blob": 8.0, "other": 0.0}
    assert prints.label_volumes_ml["other"] == (0.0, 0.0, 0.0)
    assert prints.foreground_fraction == pytest.approx(8 / 100)
    assert prints.channels[0].mean == 15


def test_fingerprint_of_pictures(tmp_path, write, task):
    label = np.zeros((8, 6, 1))
    label[2:4] = 255
    write("images/a.png", np.stack([label, label / 5, label * 0]))
    write("labels/a.png", label)
    flat = task(modality="photo", dimensions=2, channels=["red", "green", "blue"])
    prints = fingerprint(find_cases(flat, tmp_path).cases, flat)
    assert prints.shapes == ((8, 6, 1),) and [stats.mean for stats in prints.channels] == [255, 51, 0]


def test_prepared_cases_are_kept_and_found_again(two, task, plan):
    root, _, inside = two
    cases = find_cases(task(), root).cases
    events = []
    first, second = prepare_cases(cases, task(), plan, root / "cache", events.append)
    assert (first.id, second.id) == ("a", "b") and first.image.shape == (1, 6, 5, 8) == (1, *first.label.shape)
    np.testing.assert_array_equal(first.image, second.image)  # one content, so one canonical array
    np.testing.assert_array_equal(first.label, second.label)
    assert first.image.dtype == np.float32 and first.label.dtype == np.uint8
    assert first.label.sum() == 2 * inside.sum()
    assert set(first.centers) == {1} and all(first.label[tuple(voxel)] == 1 for voxel in first.centers[1])
    assert second.trace.source.orientation == cases[1].id.replace("b", "PSL")
    assert events[-1] == Progress("preprocessing", 2, 2)

    stamps = {file: file.stat().st_mtime_ns for file in (root / "cache").rglob("*.npy")}
    again = prepare_cases(cases, task(), plan, root / "cache")
    assert {file: file.stat().st_mtime_ns for file in (root / "cache").rglob("*.npy")} == stamps
    np.testing.assert_array_equal(again[0].image, first.image)
    np.testing.assert_array_equal(again[0].trace.source.affine, first.trace.source.affine)


def test_changes_and_damage_are_noticed(two, task, plan, write):
    root, _, _ = two
    case = find_cases(task(), root).cases[0]
    folder = root / "cache"

    def prepared(plan=plan, **changes):
        return prepare_cases([case], task(**changes), plan, folder)[0]

    key = prepared().key
    assert prepared(plan=replace(plan, spacing=(2.0, 1.0, 1.0))).image.shape == (1, 3, 5, 8)
    assert prepared(labels={"blob": [1, 2]}).key != key
    image = next(folder.rglob("image.npy"))
    image.write_bytes(image.read_bytes()[:200])
    assert prepared().image.shape == (1, 6, 5, 8)
    next(folder.rglob("meta.json")).write_text("{")
    assert prepared().key == key
    write("images/a.nii.gz", np.ones((6, 5, 4)))
    assert prepared().key != key and prepared().image.max() == pytest.approx(1 / 50)
    write("labels/a.nii.gz", np.full((6, 5, 4), 3))
    with pytest.raises(FormatError, match="undeclared"):
        prepared()
    assert not list(folder.glob(".medseg-*"))


def test_arrays_take_writes_that_never_reach_the_disk(two, task, plan):
    root, _, _ = two
    case = find_cases(task(), root).cases[0]
    one = prepare_cases([case], task(), plan, root / "cache")[0]
    before = float(one.image[0, 0, 0, 0])
    one.image[0, 0, 0, 0] = 99
    assert prepare_cases([case], task(), plan, root / "cache")[0].image[0, 0, 0, 0] == before


def made(label: np.ndarray) -> PreparedCase:
    centers = {int(v): np.argwhere(label == v).astype(np.int32) for v in np.unique(label) if v not in (0, IGNORE)}
    image = np.zeros((1, *label.shape), np.float32)
    return PreparedCase("a", "a", image, label, None, centers, "key")  # type: ignore[arg-type]


def test_foreground_centers_hold_their_label_and_stay_inside():
    label = np.zeros((20, 20, 20), np.uint8)
    label[3, 3, 3], label[10:, 10:, 10:] = 1, 2
    case, rng, seen = made(label), np.random.default_rng(0), []
    for _ in range(200):
        center = np.array(draw_center(case, (8, 7, 5), 1.0, rng))
        start = center - (np.array([8, 7, 5]) - 1) / 2
        assert np.array_equal(start, np.rint(start)) and (start >= 0).all()
        assert (start + np.array([8, 7, 5]) <= 20).all()
        i, j, k = start.astype(int)
        seen.append(set(np.unique(label[i : i + 8, j : j + 7, k : k + 5])) - {0})
    assert all(seen)
    small = sum(1 in one for one in seen)
    assert 60 < small < 140  # one voxel is drawn as often as a thousand


def test_random_centers_cover_everything_and_small_scans_lie_in_the_middle():
    case, rng = made(np.zeros((6, 4, 1), np.uint8)), np.random.default_rng(0)
    centers = {draw_center(case, (4, 6, 1), 0.5, rng) for _ in range(100)}
    assert centers == {(1.5 + start, 1.5, 0.0) for start in range(3)}


def test_centers_at_the_border_have_a_neighbour_of_another_label():
    label = np.zeros((20, 20, 20), np.uint8)
    label[5:15, 5:15, 5:15] = 1
    label[:, :, 15:] = IGNORE
    case, rng = made(label), np.random.default_rng(0)
    for _ in range(50):
        i, j, k = (int(c) for c in draw_center(case, (1, 1, 1), 1.0, rng, boundary=1.0))
        assert label[i, j, k] == 1
        assert i in (5, 14) or j in (5, 14) or k == 5  # k = 14 only touches what is ignored
    full = made(np.ones((4, 4, 4), np.uint8))  # has no border: any of its voxels will do
    assert len({draw_center(full, (1, 1, 1), 1.0, rng, boundary=1.0) for _ in range(50)}) > 10


def test_cases_with_a_rare_label_are_drawn_as_often_as_all_others_together():
    common, both = np.ones((3, 3, 3), np.uint8), np.ones((3, 3, 3), np.uint8)
    both[0] = 2
    rng = np.random.default_rng(0)
    drawn = [draw_case([made(common), made(common), made(common), made(both)], rng) for _ in range(800)]
    assert 0.57 < np.mean([place == 3 for place in drawn]) < 0.68  # a half, and a quarter of the other half
    empty = [made(np.zeros((2, 2, 2), np.uint8))] * 3
    assert {draw_case(empty, rng) for _ in range(50)} == {0, 1, 2}


def test_draws_are_seeded():
    case = made(np.ones((9, 9, 9), np.uint8))
    one, two = (draw_center(case, (3, 3, 3), 0.5, np.random.default_rng(4)) for _ in range(2))
    assert one == two
