"""Objects told apart: what never happens, and that tiles and pieces leave no trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from medseg.bundle import Bundle
from medseg.core.case import Scan, Source
from medseg.core.geometry import Geometry
from medseg.core.plan import (
    ChannelStats,
    Fingerprint,
    InstanceSpec,
    NetworkSpec,
    Normalization,
    Plan,
    Schedule,
    WindowSpec,
)
from medseg.core.task import parse_task
from medseg.core.volume import Volume
from medseg.inference import Predictor
from medseg.inference.instances import Example, fitted, separate
from medseg.metrics.instances import match_instances, pooled
from medseg.nets import build
from medseg.phantoms.microscopy import paint_cells
from medseg.preprocess.instances import INTERIOR, instance_classes

PIXELS = (1.0, 1.0, 1.0)


def seen(seed: int, blur: float = 1.0) -> Example:
    """A perfect network's answer for a synthetic picture, blurred a little."""
    ids = paint_cells(seed).labelmap.array.astype(np.int32)
    inside = (instance_classes(ids, 2, PIXELS) == INTERIOR).astype(np.float32)
    foreground = ndimage.gaussian_filter((ids > 0).astype(np.float32), (blur, blur, 0))
    return Example(ids > 0, ndimage.gaussian_filter(inside, (blur, blur, 0)), foreground, ids, PIXELS)


def f1(found: np.ndarray, true: np.ndarray) -> float:
    return pooled([match_instances(found, true)])["f1_50"] or 0.0


@pytest.mark.parametrize("seed", range(4))
def test_touching_nuclei_are_told_apart(seed: int) -> None:
    example = seen(seed)
    found = separate(example.mask, example.interiors, InstanceSpec(0.5, 0.5, smallest=0), PIXELS)
    assert f1(found, example.ids) > 0.97
    pieces = ndimage.label(example.mask)[0]
    assert f1(pieces, example.ids) < f1(found, example.ids)


@given(seed=st.integers(0, 999), level=st.floats(0.2, 0.9), smoothing=st.floats(0, 2), smallest=st.floats(0, 9))
@settings(max_examples=25, deadline=None)
def test_objects_are_connected_numbered_and_never_on_background(
    seed: int, level: float, smoothing: float, smallest: float
) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((24, 20, 3)).astype(np.float32), (2, 2, 1))
    noise = (noise - noise.min()) / np.ptp(noise)
    mask = noise > 0.45
    found = separate(mask, noise, InstanceSpec(level, smoothing, smallest=smallest), PIXELS)
    assert not found[~mask].any()
    sizes = np.bincount(found.ravel())[1:]
    assert (sizes >= max(1.0, smallest)).all()
    assert all(ndimage.label(found == value)[1] == 1 for value in range(1, len(sizes) + 1))
    first = [int(np.flatnonzero(found == value)[0]) for value in range(1, len(sizes) + 1)]
    assert first == sorted(first)
    if smallest < 1:
        assert np.array_equal(found > 0, mask)


@pytest.mark.parametrize("seed", range(3))
def test_piece_by_piece_is_one_watershed_over_the_whole_picture(seed: int) -> None:
    example, spec = seen(seed), InstanceSpec(0.6, 0.0, smallest=0)
    found = separate(example.mask, example.interiors, spec, PIXELS)
    seeds = ndimage.label(example.mask & (example.interiors > spec.seed))[0]
    pieces = ndimage.label(example.mask)[0]
    unseeded = np.isin(pieces, np.setdiff1d(pieces, pieces[seeds > 0])) & example.mask
    seeds[unseeded] = seeds.max() + pieces[unseeded]
    whole = watershed(np.rint(256 * (1 - example.interiors)), seeds, mask=example.mask)
    assert match_instances(found, whole, [1.0]).tp[0] == found.max() == len(np.unique(whole)) - 1


def test_balls_that_touch_are_told_apart_in_a_stack() -> None:
    i, j, k = np.indices((40, 24, 12))
    away = [np.sqrt((i - a) ** 2 + (j - 11) ** 2 + (2 * (k - 5)) ** 2) for a in (12, 27)]
    ids = np.where(np.minimum(*away) <= 8, 1 + np.argmin(away, axis=0), 0).astype(np.int32)
    spacing = (0.5, 0.5, 1.0)
    inside = (instance_classes(ids, 3, spacing) == INTERIOR).astype(np.float32)
    assert ndimage.label(ids > 0)[1] == 1
    found = separate(ids > 0, inside, InstanceSpec(0.5, 0.25, smallest=1), spacing)
    assert found.max() == 2 and f1(found, ids) == 1.0


def test_what_is_uncertain_or_small_is_no_object() -> None:
    mask, interiors = np.zeros((12, 12, 1), dtype=bool), np.zeros((12, 12, 1), dtype=np.float32)
    mask[1:5, 1:5], mask[7:11, 1:5], mask[2, 8] = True, True, True
    interiors[1:5, 1:5], interiors[7:11, 1:5], interiors[2, 8] = 0.4, 0.2, 0.9
    found = separate(mask, interiors, InstanceSpec(0.5, 0.0, certain=0.3, smallest=2), PIXELS)
    assert (found[1:5, 1:5] == 1).all() and found.sum() == 16
    assert separate(mask, interiors, InstanceSpec(0.5, 0.0, certain=0.0, smallest=0), PIXELS).max() == 3


def test_what_is_doubtful_on_average_is_no_object() -> None:
    mask, foreground = np.zeros((12, 12, 1), dtype=bool), np.zeros((12, 12, 1), dtype=np.float32)
    mask[1:5, 1:5], mask[7:11, 1:5] = True, True
    foreground[1:5, 1:5], foreground[7:11, 1:5] = 0.9, 0.6
    foreground[8, 2] = 1.0
    spec = InstanceSpec(0.5, 0.0, smallest=0, sure=0.7)
    found = separate(mask, foreground, spec, PIXELS, foreground)
    assert (found[1:5, 1:5] == 1).all() and found.sum() == 16
    assert separate(mask, foreground, replace(spec, sure=0.5), PIXELS, foreground).max() == 2
    assert separate(mask, foreground, spec, PIXELS).max() == 2  # nothing is known of how sure they are


def test_objects_have_to_be_as_sure_as_those_that_were_right_if_there_are_enough() -> None:
    examples = [seen(seed) for seed in range(8)]
    spec = fitted(examples, InstanceSpec())
    assert 0.5 < spec.sure <= 0.85
    for example in examples:
        kept = separate(example.mask, example.interiors, spec, PIXELS, example.foreground)
        every = separate(example.mask, example.interiors, replace(spec, sure=0.0), PIXELS)
        assert kept.max() >= every.max() - 2
    assert fitted(examples[:1], InstanceSpec()).sure == 0.0


def test_settings_are_those_that_fit_best_and_stay_where_there_is_nothing_to_fit() -> None:
    examples = [seen(seed, blur=2.0) for seed in (0, 2)]
    start = InstanceSpec(0.95, 0.0, smallest=0)
    spec = fitted(examples, start)

    def score(used: InstanceSpec) -> float:
        return float(np.mean([f1(separate(e.mask, e.interiors, used, e.spacing), e.ids) for e in examples]))

    assert score(spec) > score(start) and score(spec) > 0.9
    small = np.percentile(np.bincount(np.concatenate([e.ids.ravel() for e in examples]))[1:], 10)
    assert spec.smoothing < np.sqrt(small / np.pi)  # no neighbours blur into one
    assert fitted([replace(examples[0], ids=np.zeros_like(examples[0].ids))], start) == start


# ---- with a network that can be checked by hand --------------------------------------------------

TASK = parse_task(
    {"name": "t", "modality": "microscopy", "dimensions": 2, "labels": {"cell": "nonzero"}, "instances": True}, "t"
)
STATS = ChannelStats(0, 0, 2, 0, 1, 0, 2)


def bundle_of(patch: tuple[int, int, int], flips: bool = False) -> Bundle:
    """Background where the picture is 0, border where it is 1, interior where it is 2."""
    spec = NetworkSpec("unet", 2, 1, 3, (1, 1), ((1, 1), (2, 2)), ((1, 1), (1, 1)), norm="none")
    state = build(spec).state_dict()
    for name, value in state.items():
        value.zero_()
        if name.startswith("encoder.0") and name.endswith("weight"):
            value.fill_(1.0)
        if name.startswith("decoder") and name.endswith("weight"):
            value.view(-1)[0] = 1.0  # the skip comes first
        if name == "heads.0.weight":
            value.copy_(torch.tensor([0.0, 200.0, 100.0]).reshape(value.shape))
        if name == "heads.0.bias":
            value.copy_(torch.tensor([0.0, -150.0, -10.0]))
    plan = Plan(
        task="t",
        ndim=2,
        spacing=PIXELS,
        normalization=(Normalization("ct", 0, 2, 0, 1),),
        patch=patch,
        batch=1,
        network=spec,
        schedule=Schedule(precision="float32"),
        window=WindowSpec(batch=2, flips=flips),
        instances=InstanceSpec(0.5, 0.0, smallest=0),
    )
    prints = Fingerprint(2, ((256, 256, 1),), (PIXELS,), (STATS,), {"cell": 100.0}, {}, 0.1)
    return Bundle(TASK, plan, prints, state)


def scan_of(ids: np.ndarray) -> Scan:
    classes = instance_classes(ids, 2, PIXELS)
    noise = np.random.default_rng(0).uniform(0.0, 0.01, ids.shape)  # what is one grey all over is refused
    array = (np.choose(classes, [0.0, 2.0, 1.0]) + noise).astype(np.float32)[np.newaxis]
    source = Source(Path("a.png"), (Path("a.png"),), "image", "a")
    return Scan(source, Volume(array, Geometry.from_spacing(PIXELS, ids.shape)), "image")


def test_a_prediction_holds_the_objects_and_where_they_are() -> None:
    ids = paint_cells(3).labelmap.array.astype(np.int32)
    prediction = Predictor(bundle_of((64, 64, 1)), "cpu").predict(scan_of(ids))
    assert prediction.instances is not None and prediction.instances.dtype == np.int32
    assert f1(prediction.instances, ids) > 0.97
    assert np.array_equal(prediction.labelmap.array, (ids > 0).astype(np.uint8))
    assert prediction.labelmap.labels == TASK.label_table()
    written = prediction.written
    assert written.array.dtype == np.uint16 and np.array_equal(written.array, prediction.instances)


@pytest.mark.parametrize("patch", [(32, 48, 1), (64, 64, 1), (96, 128, 1)], ids=str)
def test_tiles_leave_no_seams(patch: tuple[int, int, int]) -> None:
    ids = paint_cells(1).labelmap.array.astype(np.int32)[:200, :230]
    whole = Predictor(bundle_of((256, 256, 1)), "cpu").predict(scan_of(ids))
    tiled = Predictor(bundle_of(patch), "cpu").predict(scan_of(ids))
    assert whole.instances is not None and whole.instances.max() > 30
    assert np.array_equal(tiled.instances, whole.instances)


def test_an_empty_picture_has_no_objects() -> None:
    prediction = Predictor(bundle_of((32, 32, 1)), "cpu").predict(scan_of(np.zeros((40, 40, 1), np.int32)))
    assert prediction.instances is not None and not prediction.instances.any()
