"""Objects of a labelled case: how they are numbered, prepared and kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.core.errors import TaskError
from medseg.core.labels import IGNORE
from medseg.core.plan import InstanceSpec, NetworkSpec, Normalization, Plan
from medseg.core.task import parse_task
from medseg.data.cache import case_key, prepare_cases
from medseg.data.labels import numbered
from medseg.data.layouts import find_cases
from medseg.training.batches import make_batches


@pytest.fixture
def cells(task):
    """cells(…): a 2D task whose objects are told apart."""

    def make(**changes):
        return task(
            labels={"cell": "nonzero"}, modality="microscopy", dimensions=2, **{"instances": True, **changes}
        )  # fmt: skip

    return make


@pytest.fixture
def plan() -> Plan:
    network = NetworkSpec("unet", 2, 1, 3, (4,), ((1, 1),), ((3, 3),))
    return Plan(
        "tiny", 2, (1.0, 1.0, 1.0), (Normalization("unit8"),), (16, 16, 1), 4, network, instances=InstanceSpec()
    )


@pytest.fixture
def case(write, tmp_path, cells):
    ids = np.zeros((30, 26, 1))
    ids[3:14, 4:12], ids[14:25, 4:12], ids[5:9, 20:24] = 300, 7, 12
    rng = np.random.default_rng(0)
    write("images/a.png", rng.integers(0, 255, ids.shape))
    write("labels/a.png", ids)
    write("images/b.png", rng.integers(0, 255, ids.shape))
    write("labels/b.png", ids * 0)
    return find_cases(cells(), tmp_path).cases


def test_objects_are_numbered_in_the_order_of_their_values() -> None:
    raw = np.array([[[0, 300], [7, 255]], [[300, 7], [0, 12]]])
    assert numbered(raw, None).tolist() == [[[0, 4], [1, 3]], [[4, 1], [0, 2]]]
    assert numbered(raw, 255).tolist() == [[[0, 3], [1, 0]], [[3, 1], [0, 2]]]


def test_the_pieces_of_a_mask_are_its_objects() -> None:
    raw = np.zeros((5, 5, 1), dtype=int)
    raw[0, 0], raw[1, 1], raw[3:, 3:] = 255, 255, 255
    assert np.unique(numbered(raw, None)).tolist() == [0, 1, 2]
    assert not numbered(np.zeros((3, 3, 1), int), None).any()


def test_a_prepared_case_keeps_labels_and_learns_interiors_and_borders(case, cells, plan, tmp_path) -> None:
    for _ in range(2):  # made, and found again
        first, second = prepare_cases(case, cells(), plan, tmp_path / "cache")
        assert first.objects is not None
        assert first.image.shape == (1, 30, 26, 1) and first.sampled.shape == (2, 30, 26, 1)
        assert set(np.unique(first.label)) == {0, 1} and set(np.unique(first.target)) == {0, 1, 2}
        assert np.array_equal(first.target > 0, first.label > 0)
        assert np.unique(first.objects.ids).tolist() == [0, 1, 2, 3]
        weights = first.sampled[1]
        assert weights[13:15, 6].min() > 10 and weights[0, 0] < 1.1  # between the two that touch; far from both
        assert not second.target.any() and (second.sampled[1] == 1).all()


def test_what_is_ignored_is_no_object(write, tmp_path, cells, plan) -> None:
    ids = np.zeros((20, 20, 1))
    ids[2:8, 2:8], ids[10:14, 10:14], ids[15:] = 1, 2, 255
    write("images/a.png", ids)
    write("labels/a.png", ids)
    task = cells(ignore=255)
    (found,) = prepare_cases(find_cases(task, tmp_path).cases, task, plan, tmp_path / "cache")
    assert found.objects is not None and found.objects.ids.max() == 2
    assert (found.target[15:] == IGNORE).all() and (found.target != IGNORE).sum() == 300


def test_tasks_without_instances_are_prepared_as_ever(case, cells, plan, tmp_path) -> None:
    plain, apart = cells(instances=False), cells()
    assert case_key(case[0], plain, plan) != case_key(case[0], apart, plan)
    prepared = prepare_cases(case, plain, replace(plan, instances=None), tmp_path / "cache")
    assert prepared[0].objects is None and prepared[0].sampled is prepared[0].image
    assert not list((tmp_path / "cache").rglob("instances.npy"))


def test_weights_move_with_the_picture(case, cells, plan, tmp_path) -> None:
    """A picture that shows its own weights still does so after every rotation, flip and deformation."""
    augment = replace(plan.augment, rotation=180.0, rotation_probability=1.0, elastic_probability=1.0, flips=(0, 1),
                      intensity_probability=0.0)  # fmt: skip
    (found, _) = prepare_cases(case, cells(), plan, tmp_path / "cache")
    assert found.objects is not None
    weighted = found.sampled.copy()
    weighted[0] = weighted[1]
    shown = replace(found, objects=replace(found.objects, weighted=weighted))
    batches = make_batches(replace(plan, augment=augment), [shown], range(256), torch.device("cpu"))
    for step in range(3):
        batch = batches(step)
        assert batch.weights is not None and batch.weights.shape == (4, 16, 16)
        assert batch.images.shape == (4, 1, 16, 16) and batch.images.is_contiguous()
        assert np.allclose(batch.images[:, 0], batch.weights, atol=1e-5)
        assert set(np.unique(batch.targets)) <= {0, 1, 2, IGNORE}


@pytest.mark.parametrize("labels", [{"cell": 1}, {"a": 1, "b": 2}], ids=str)
def test_instances_need_one_label_that_takes_every_value(labels) -> None:
    with pytest.raises(TaskError, match="exactly one label"):
        parse_task({"name": "t", "modality": "microscopy", "labels": labels, "instances": True}, "t.yaml")
