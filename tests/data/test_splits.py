"""Splits: grouped, seeded, the same whatever the order; read ones are checked by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.core.case import Case, Source
from medseg.core.errors import DataError, UsageError
from medseg.data.splits import make_split, read_split


def case(name: str, group: str | None = None) -> Case:
    return Case(name, group or name, (Source(Path(name), (Path(name),), "nifti", name),))


@given(
    groups=st.lists(st.integers(0, 12), min_size=2, max_size=30).filter(lambda g: len(set(g)) > 1),
    folds=st.integers(2, 6),
    seed=st.integers(0, 5),
    order=st.randoms(use_true_random=False),
)
def test_folds_partition_the_cases_and_never_cut_a_group(groups, folds, seed, order):
    cases = [case(f"c{n}", f"g{group}") for n, group in enumerate(groups)]
    count = min(folds, len(set(groups)))
    splits = [make_split(cases, folds, fold, seed) for fold in range(count)]
    assert sorted(name for split in splits for name in split.validation) == sorted(one.id for one in cases)
    group_of = {one.id: one.group for one in cases}
    for split in splits:
        assert split.train and split.validation and not split.test
        assert not {group_of[name] for name in split.train} & {group_of[name] for name in split.validation}
        assert bool(split.notes) == (count < folds)
    shuffled = list(cases)
    order.shuffle(shuffled)
    assert make_split(shuffled, folds, 0, seed) == splits[0]


def test_seeds_differ_and_folds_are_even():
    cases = [case(f"c{n}") for n in range(20)]
    assert make_split(cases, 5, 0, 0).validation != make_split(cases, 5, 0, 1).validation
    assert [len(make_split(cases, 5, fold, 0).validation) for fold in range(5)] == [4] * 5


def test_what_cannot_be_split_is_said_in_a_sentence():
    with pytest.raises(UsageError, match="1 case of one patient, but at least two"):
        make_split([case("a")], 5, 0, 0)
    with pytest.raises(UsageError, match="3 cases of one patient"):
        make_split([case(name, "p") for name in "abc"], 5, 0, 0)
    with pytest.raises(UsageError, match="no cases"):
        make_split([], 5, 0, 0)
    with pytest.raises(UsageError, match="fold 3 does not exist: the folds are 0 to 2"):
        make_split([case(name) for name in "abc"], 5, 3, 0)


def written(folder: Path, value) -> Path:
    path = folder / "split.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_split_file_is_read(tmp_path):
    cases = [case(name) for name in "abcd"]
    split = read_split(written(tmp_path, {"train": ["b", "a"], "validation": ["c"], "test": ["d"]}), cases)
    assert (split.train, split.validation, split.test, split.notes) == (("a", "b"), ("c",), ("d",), ())


def test_a_missing_validation_list_is_taken_from_training_by_patient(tmp_path):
    cases = [case(f"{group}{n}", group) for group in "abcde" for n in range(2)] + [case("t")]
    names = [one.id for one in cases[:-1]]
    split = read_split(written(tmp_path, {"train": names}), cases)
    assert sorted(split.train + split.validation) == names and split.test == ()
    assert len(split.validation) == 2 and len({name[0] for name in split.validation}) == 1
    assert "2 of its training cases validate" in split.notes[0]
    with pytest.raises(UsageError, match="one patient"):
        read_split(written(tmp_path, {"train": ["a0", "a1"]}), cases)


def test_where_cases_are_tested_all_training_cases_are_learnt_from(tmp_path):
    cases = [case(name) for name in "abcd"]
    for lists in ({"train": ["a", "b"], "test": ["c"]}, {"train": ["a", "b"], "validation": [], "test": ["c"]}):
        split = read_split(written(tmp_path, lists), cases)
        assert (split.train, split.validation, split.test) == (("a", "b"), (), ("c",))


def test_unknown_doubled_and_cut_are_refused_by_name_all_at_once(tmp_path):
    cases = [case("a1", "a"), case("a2", "a"), case("b"), case("c")]
    path = written(tmp_path, {"train": ["a1", "b", "x"], "validation": ["a2", "b"], "test": ["y"]})
    with pytest.raises(DataError) as caught:
        read_split(path, cases)
    assert caught.value.problems == (
        "train: there is no labelled case 'x'",
        "test: there is no labelled case 'y'",
        "'b' is in train and validation",
        "patient 'a' is cut through: its cases are in train and validation",
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("{", "is not a JSON file"),
        ([1], "a split file is"),
        ({"train": ["a"], "val": []}, "unknown key 'val'"),
        ({"train": "a"}, "train must be a list"),
        ({"validation": ["a"]}, "names no training cases"),
    ],
)
def test_files_that_are_no_splits(tmp_path, value, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_split(written(tmp_path, value), [case("a")])
    with pytest.raises(UsageError, match="no such split file"):
        read_split(tmp_path / "none.json", [])
