"""The planner: pure, sensible on known shapes, overridable, and honest about impossible wishes."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.errors import PlanError, UsageError
from medseg.core.machine import PRESETS, machine, preset_for
from medseg.core.plan import ChannelStats, Fingerprint, Plan, plan_from_plain, to_plain
from medseg.core.task import Task, parse_task
from medseg.planning import plan


def _task(modality: str = "CT", dimensions: int = 3, **extra: Any) -> Task:
    labels = {"left": {"value": 1, "mirror": "right"}, "right": {"value": 2, "mirror": "left"}}
    return parse_task({"name": "t", "modality": modality, "dimensions": dimensions, "labels": labels, **extra}, "test")


def _prints(shape: tuple[int, int, int], spacing: tuple[float, float, float], channels: int = 1) -> Fingerprint:
    stats = ChannelStats(-980, -850, 60, -800, 180, -1024, 2000)
    return Fingerprint(5, (shape,) * 5, (spacing,) * 5, (stats,) * channels, {"left": 9.0}, {"left": (1, 2, 3)}, 0.1)


def _plan(shape: tuple[int, int, int], spacing: tuple[float, float, float], task: Task | None = None) -> Plan:
    task = task or _task()
    return plan(_prints(shape, spacing), task, machine("cpu", task.dimensions))


def test_hippocampus_gets_one_patch_for_the_whole_volume() -> None:
    planned = _plan((35, 50, 36), (1, 1, 1), _task("MR"))
    assert planned.patch == (40, 56, 40)
    assert planned.spacing == (1, 1, 1)
    assert [n.scheme for n in planned.normalization] == ["zscore"]
    assert planned.window.skip_below is None


def test_a_clinical_ct_is_coarsened_for_a_cpu_but_not_for_a_gpu() -> None:
    shape, spacing = (512, 512, 300), (0.7, 0.7, 1.0)
    on_cpu = plan(_prints(shape, spacing), _task(), machine("cpu", 3))
    on_gpu = plan(_prints(shape, spacing), _task(), machine("cuda", 3))
    voxels = prod(n * s / t for n, s, t in zip(shape, spacing, on_cpu.spacing, strict=True))
    assert voxels == pytest.approx(machine("cpu", 3).volume_voxels, rel=0.01)
    assert max(on_gpu.spacing) <= 1.0
    assert "coarsened" in on_cpu.reasons["spacing"]


def test_coarse_slices_are_pooled_later_with_flat_kernels() -> None:
    planned = plan(_prints((320, 320, 24), (0.6, 0.6, 5.0)), _task("MR"), machine("cuda", 3))
    assert planned.network.kernels[0] == (3, 3, 1)
    assert planned.network.strides[1] == (2, 2, 1)
    assert planned.network.kernels[-1] == (3, 3, 3)


def test_ct_is_clipped_by_the_foreground_and_its_air_is_skipped() -> None:
    planned = _plan((96, 96, 64), (3.5, 3.5, 5))
    (norm,) = planned.normalization
    assert (norm.scheme, norm.lower, norm.upper) == ("ct", -980, 60)
    assert planned.window.skip_below == pytest.approx((-980 + 800) / 180, abs=2e-3)


def test_flips_exchange_sides_only_where_the_task_says_so() -> None:
    assert _plan((40, 40, 40), (1, 1, 1)).augment.flips == (0,)
    sided = _plan((256, 256, 1), (1, 1, 1), _task("photo", 2)).augment
    assert (sided.flips, sided.lateral) == ((1,), 1)  # a picture's left and right lie along its columns
    cells = parse_task({"name": "t", "modality": "microscopy", "dimensions": 2, "labels": {"a": 1}}, "test")
    assert _plan((256, 256, 1), (1, 1, 1), cells).augment.flips == (0, 1)


def test_cells_are_inverted_now_and_then_as_microscopes_show_them_bright_or_dark() -> None:
    for modality, expected in (("microscopy", 0.1), ("photo", 0.0)):
        task = parse_task({"name": "t", "modality": modality, "dimensions": 2, "labels": {"a": 1}}, "test")
        planned = _plan((256, 256, 1), (1, 1, 1), task)
        assert planned.augment.invert_probability == expected
        assert ("inverted" in planned.reasons["augment"]) == bool(expected)


@pytest.mark.parametrize(
    ("picture", "seconds", "edge"), [(512, "300", 128), (512, "600", 256), (384, "600", 192), (256, "600", 128)]
)
def test_patches_of_pictures_are_small_in_short_trainings_and_a_quarter_of_the_picture_at_most_in_long_ones(
    picture: int, seconds: str, edge: int
) -> None:
    cells = parse_task({"name": "t", "modality": "microscopy", "dimensions": 2, "labels": {"a": 1}}, "test")
    prints = _prints((picture, picture, 1), (1, 1, 1))
    planned = plan(prints, cells, machine("cpu", 2), {"schedule.time_budget": seconds})
    assert planned.patch[0] == planned.patch[1] == edge and planned.patch[2] == 1
    assert planned.batch in (4, 6, 8)
    assert plan(prints, cells, machine("cuda", 2), {"schedule.time_budget": seconds}).patch == (picture, picture, 1)


def test_small_volumes_are_predicted_with_their_mirrored_copies_and_large_ones_are_not() -> None:
    small, large = _plan((40, 52, 38), (1, 1, 1)), _plan((160, 160, 160), (1, 1, 1))
    assert small.window.flips and "mirrored" in small.reasons["window.flips"]
    assert not large.window.flips and "window.flips" not in large.reasons
    hand = {"name": "t", "modality": "MR", "dimensions": 3, "labels": {"left hand": 1}}
    one_sided = parse_task(hand, "test")
    assert not _plan((40, 52, 38), (1, 1, 1), one_sided).window.flips


def test_colours_of_microscopy_share_one_scale_and_other_channels_do_not() -> None:
    for channels, scheme in ((["red", "green", "blue"], "picture"), (["dna"], "picture"), (["dna", "actin"], "zscore")):
        raw = {"name": "t", "modality": "microscopy", "dimensions": 2, "channels": channels, "labels": {"a": 1}}
        prints = _prints((256, 256, 1), (1, 1, 1), channels=len(channels))
        planned = plan(prints, parse_task(raw, "test"), machine("cpu", 2))
        assert {one.scheme for one in planned.normalization} == {scheme}


def test_regions_of_the_task_reach_the_loss() -> None:
    task = _task(regions={"both": ["right", "left"]})
    planned = _plan((35, 50, 36), (1, 1, 1), task)
    assert planned.schedule.regions == ((1, 2),) and "both" in planned.reasons["schedule.regions"]
    assert plan_from_plain(to_plain(planned)) == planned
    with pytest.raises(PlanError, match=r"schedule\.regions: each is a list of label values, which are 1\.\.2"):
        plan(_prints((35, 50, 36), (1, 1, 1)), task, machine("cpu", 3), {"schedule.regions": "[[1, 3]]"})


@pytest.mark.parametrize("name", ["foreground", "boundary", "balance"])
def test_shares_of_patches_are_shares(name: str) -> None:
    with pytest.raises(PlanError, match=rf"schedule\.{name} must lie within 0\.\.1, not 1\.5"):
        plan(_prints((35, 50, 36), (1, 1, 1)), _task(), machine("cpu", 3), {f"schedule.{name}": 1.5})


def test_the_plan_survives_json() -> None:
    planned = _plan((96, 96, 64), (3.5, 3.5, 5))
    assert plan_from_plain(to_plain(planned)) == planned


def test_overrides_of_task_and_user_are_checked() -> None:
    task = _task(plan={"schedule.steps": 7, "batch": 3})
    prints, budget = _prints((96, 96, 64), (3.5, 3.5, 5)), machine("cpu", 3)
    planned = plan(prints, task, budget, {"batch": "4"})
    assert (planned.schedule.steps, planned.batch) == (7, 4)
    assert planned.reasons["batch"] == "set by the user"
    with pytest.raises(PlanError, match="no such key"):
        plan(prints, task, budget, {"schedule.step": "4"})
    with pytest.raises(PlanError, match=r"patch: 50 on axis 0 is no multiple"):
        plan(prints, task, budget, {"patch": "[50, 48, 48]"})
    with pytest.raises(PlanError, match="out_channels must be 3"):
        plan(prints, task, budget, {"network.out_channels": "2"})
    with pytest.raises(PlanError, match="one entry per stage"):
        plan(prints, task, budget, {"network.features": "[8, 16]"})
    with pytest.raises(PlanError, match=r"network\.width: 'unet' has the widths of network\.features"):
        plan(prints, task, budget, {"network.width": "0.5"})


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 700)] * 3),
    spacing=st.tuples(*[st.floats(0.05, 12)] * 3),
    device=st.sampled_from(["cpu", "cuda"]),
    dimensions=st.sampled_from([2, 3]),
)
def test_any_data_gets_a_plan_that_holds_together(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], device: Any, dimensions: int
) -> None:
    task = _task("CT", dimensions)
    budget = machine(device, dimensions)
    planned = plan(_prints(shape, spacing), task, budget)  # validated inside
    assert prod(planned.patch) <= 2.5 * budget.patch_voxels
    assert len(planned.network.features) == len(planned.network.strides)
    assert planned.batch >= 2
    assert all(
        target >= 0.99 * given for target, given in zip(planned.spacing, spacing, strict=True) if dimensions == 2
    )
    assert plan_from_plain(to_plain(planned)) == planned


def test_a_longer_training_gets_a_larger_network_and_says_so() -> None:
    prints = _prints((40, 52, 38), (1, 1, 1))
    plans = [plan(prints, _task("MR"), machine("cpu", 3, preset)) for preset in PRESETS]
    assert [planned.network.features[0] for planned in plans] == [16, 24, 32]
    assert [planned.network.residual for planned in plans] == [False, False, True]
    assert [planned.network.deep_supervision for planned in plans] == [False, True, True]
    assert all(planned.reasons["preset"].startswith(name) for name, planned in zip(PRESETS, plans, strict=True))
    assert [preset_for("cpu", seconds) for seconds in (None, 600, 7200, 30000)] == ["fast", "fast", "balanced", "best"]
    with pytest.raises(UsageError, match="huge"):
        machine("cpu", 3, "huge")  # type: ignore[arg-type]  # what a user may type


@pytest.mark.parametrize(
    ("labels", "flips"),
    [
        ({"liver": 1}, (0,)),
        ({"kidney_left": 1}, ()),
        ({"Right lung": 1, "heart": 2}, ()),
        ({"a": {"value": 1, "mirror": "b"}, "b": {"value": 2, "mirror": "a"}}, (0,)),
    ],
)
def test_bodies_are_flipped_unless_a_label_names_its_side_alone(labels: dict[str, Any], flips: tuple[int, ...]) -> None:
    task = parse_task({"name": "t", "modality": "MR", "dimensions": 3, "labels": labels}, "test")
    assert _plan((40, 52, 38), (1, 1, 1), task).augment.flips == flips


def test_a_long_training_sees_stronger_variation() -> None:
    prints, task = _prints((40, 52, 38), (1, 1, 1)), _task("MR")
    found = [
        plan(prints, task, machine("cpu", 3), wishes).augment.elastic_probability
        for wishes in ({}, {"schedule.time_budget": "300"}, {"schedule.time_budget": "1200"}, {"schedule.steps": 4000})
    ]
    assert found == [0.2, 0.2, 0.5, 0.5]


def test_a_short_name_means_the_usual_backbone() -> None:
    prints, task = _prints((256, 256, 1), (1, 1, 1)), _task("photo", 2)
    planned = plan(prints, task, machine("cpu", 2), {"network.name": "deeplabv3plus", "network.width": "0.25"})
    assert planned.network.name == "deeplabv3plus_resnet50"
