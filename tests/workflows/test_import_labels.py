"""Annotations become a data set that medseg finds, names and trains with."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import medseg
from medseg.core.errors import DataError, FormatError, TaskError, UsageError
from medseg.core.events import Progress
from medseg.core.geometry import Geometry
from medseg.core.task import Task, load_task, parse_task
from medseg.core.volume import Volume
from medseg.data.labels import read_case
from medseg.data.layouts import declared_ignore, declared_labels, find_cases
from medseg.formats.dicom_write import write_series
from medseg.workflows.import_labels import Imported, ImportOptions, case_names, import_labels
from medseg.workflows.init import init

SIZE = (8, 10)


def save_image(path: Path, seed: int = 0, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, SIZE, dtype=np.uint8)
    Image.fromarray(noise).save(path, **options)
    return path


def box(label: str, left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    points = [[left, top], [right, bottom]]
    return {"label": label, "points": points, "group_id": None, "shape_type": "rectangle", "flags": {}}


def annotate(path: Path, *shapes: dict[str, Any], image: str = "", size: tuple[int, int] = SIZE) -> None:
    raw = {
        "version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image or f"{path.stem}.png",
        "imageData": None, "imageHeight": size[0], "imageWidth": size[1],
    }  # fmt: skip
    path.write_text(json.dumps(raw), encoding="utf-8")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two folders of Labelme files whose images share a name: liver with a vessel in it, and a liver."""
    for number, folder in enumerate(("a", "b")):
        save_image(tmp_path / f"in/{folder}/1.png", number)
    annotate(tmp_path / "in/a/1.json", box("Liver", 0, 0, 4, 4), box("vessel", 1, 1, 2, 2))
    annotate(tmp_path / "in/b/1.json", box("liver", 5, 5, 6, 6))
    return tmp_path / "in"


def make_task(**changes: Any) -> Task:
    raw = {"name": "t", "modality": "photo", "dimensions": 2, "labels": {"vessel": 1, "liver": 2}}
    return parse_task(raw | changes, "test")


def label(folder: Path, name: str) -> Any:
    return np.asarray(Image.open(folder / f"labels/{name}.png"))


def counts(array: Any) -> dict[int, int]:
    values, numbers = np.unique(array, return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))


def test_without_a_task_classes_are_numbered_and_init_reads_them_back(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    events: list[Any] = []
    result = import_labels(source, out, listener=events.append)
    assert isinstance(result, Imported)
    assert (result.format, result.images) == ("labelme", 2)
    rows = {row.name: (row.label, row.value, row.images, row.shapes, row.pixels) for row in result.classes}
    assert rows == {  # names that differ in case are one label
        "Liver": ("Liver", 1, 1, 1, 21),
        "vessel": ("vessel", 2, 1, 1, 4),
        "liver": ("liver", 1, 1, 1, 4),
    }
    assert [event.done for event in events if isinstance(event, Progress)] == [1, 2]
    assert counts(label(out, "a__1")) == {0: 55, 1: 21, 2: 4} and counts(label(out, "b__1")) == {0: 76, 1: 4}
    assert (out / "images/a__1.png").read_bytes() == (source / "a/1.png").read_bytes()
    assert declared_labels(out) == {"Liver": (1,), "vessel": (2,)} and declared_ignore(out) is None
    task = load_task(init(out))
    cases = find_cases(task, out).cases
    assert [case.id for case in cases] == ["a__1", "b__1"]
    assert counts(read_case(cases[0], task)[1].array) == {0: 55, 1: 21, 2: 4}
    assert result.next[0] == f"medseg init {out}"


def test_with_a_task_its_names_patterns_and_source_values_decide(source: Path, tmp_path: Path) -> None:
    labels = {"blood": {"sources": [20], "names": ["vessel.*"]}, "LIVER": [10, 11]}
    result = import_labels(source, tmp_path / "out", make_task(labels=labels))
    assert counts(label(tmp_path / "out", "a__1")) == {0: 55, 10: 21, 20: 4}
    assert declared_labels(tmp_path / "out") == {"blood": (20,), "LIVER": (10,)}
    assert {row.name: row.label for row in result.classes} == {"Liver": "LIVER", "vessel": "blood", "liver": "LIVER"}
    assert not result.left_out


@pytest.mark.parametrize(
    ("changes", "undeclared", "expected"),
    [
        ({}, None, {0: 59, 1: 21}),
        ({"ignore": 9, "undeclared": "ignore"}, None, {0: 55, 1: 21, 9: 4}),
        ({"ignore": 9}, "ignore", {0: 55, 1: 21, 9: 4}),
        ({"ignore": 9, "undeclared": "ignore"}, "background", {0: 59, 1: 21}),
    ],
)
def test_classes_that_the_task_does_not_name_are_told(
    source: Path, tmp_path: Path, changes: dict[str, Any], undeclared: str | None, expected: dict[int, int]
) -> None:
    task = make_task(labels={"liver": 1}, **changes)
    result = import_labels(source, tmp_path / "out", task, ImportOptions(undeclared=undeclared))
    assert counts(label(tmp_path / "out", "a__1")) == expected
    (left,) = result.left_out
    assert left.code == "undeclared-label" and "'vessel' became" in left.why and "(there are liver)" in left.why


def test_undeclared_classes_can_be_refused_and_the_options_are_checked(source: Path, tmp_path: Path) -> None:
    out, task = tmp_path / "out", make_task(labels={"liver": 1})
    for options, words in (
        (ImportOptions(undeclared="refuse"), "no label is called 'vessel'"),
        (ImportOptions(undeclared="ignore"), "add `ignore: 255`"),
        (ImportOptions(undeclared="maybe"), "choose one of"),
        (ImportOptions(partial=True), "no value for unknown pixels"),
        (ImportOptions(format="paint"), "there is no annotation format"),
    ):
        with pytest.raises(UsageError, match=words):
            import_labels(source, out, task, options)
    with pytest.raises(UsageError, match="it needs --task"):
        import_labels(source, out, None, ImportOptions(undeclared="ignore"))
    twice = make_task(labels={"x": {"value": 1, "names": ["ves.*"]}, "y": {"value": 2, "names": [".*sel"]}})
    with pytest.raises(UsageError, match="called by both 'x' and 'y'"):
        import_labels(source, out, twice)
    with pytest.raises(TaskError, match="nonsense"):
        import_labels(source, out, "nonsense")
    assert not out.exists()


def test_a_task_whose_label_is_nonzero_takes_every_class(source: Path, tmp_path: Path) -> None:
    import_labels(source, tmp_path / "out", make_task(labels={"tissue": "nonzero"}))
    assert counts(label(tmp_path / "out", "a__1")) == {0: 55, 1: 25}


@pytest.mark.parametrize(("task", "ignore"), [(None, 255), (make_task(ignore=7), 7)])
def test_partial_labels_leave_the_rest_to_the_ignore_value(
    source: Path, tmp_path: Path, task: Task | None, ignore: int
) -> None:
    annotate(source / "b/1.json", box("liver", 5, 5, 6, 6), box("__background__", 0, 0, 1, 1))
    out = tmp_path / "out"
    import_labels(source, out, task, ImportOptions(partial=True))
    liver = 1 if task is None else 2
    assert counts(label(out, "b__1")) == {0: 4, liver: 4, ignore: 72}
    assert declared_ignore(out) == ignore
    read = load_task(init(out)) if task is None else task
    assert (read.ignore, len(read.labels)) == (ignore, 2)
    _, mapped = read_case(find_cases(read, out).cases[1], read)
    assert counts(mapped.array)[255] == 72


def test_a_task_may_say_that_its_labels_are_partial(source: Path, tmp_path: Path) -> None:
    partial = make_task(ignore=9).model_copy(update={"partial": True})
    import_labels(source, tmp_path / "out", partial)
    assert counts(label(tmp_path / "out", "b__1")) == {2: 4, 9: 76}
    with pytest.raises(TaskError, match="partial: unknown pixels need a value"):
        parse_task({"name": "t", "modality": "photo", "labels": {"a": 1}, "partial": True}, "t")


def test_shapes_named_ignore_are_not_to_be_judged(source: Path, tmp_path: Path) -> None:
    annotate(source / "b/1.json", box("liver", 5, 5, 6, 6), box("__ignore__", 0, 0, 1, 1))
    import_labels(source, tmp_path / "one")
    assert counts(label(tmp_path / "one", "b__1")) == {0: 72, 1: 4, 255: 4}
    result = import_labels(source, tmp_path / "two", make_task())
    assert counts(label(tmp_path / "two", "b__1")) == {0: 76, 2: 4}
    assert ["'__ignore__' became background" in left.why for left in result.left_out] == [True]


def test_broken_files_are_left_out_and_the_others_go_on(source: Path, tmp_path: Path) -> None:
    (source / "c.json").write_text('{"version": "5", "shapes": [', encoding="utf-8")
    annotate(source / "d.json", box("liver", 1, 1, 2, 2), image="gone.png")
    save_image(source / "e.png")
    annotate(source / "e.json", box("liver", 1, 1, 2, 2), size=(9, 9))
    (source / "f.png").write_bytes(b"no picture")
    annotate(source / "f.json", box("liver", 1, 1, 2, 2))
    annotate(source / "g.json", box("liver", 1, 1, 2, 2), image="a/1.png")  # annotated before
    save_image(source / "h.png")
    annotate(source / "h.json", {"label": "liver", "points": [[1, 1], [2, 2]], "shape_type": "polygon"})
    result = import_labels(source, tmp_path / "out")
    assert result.images == 2 and [path.name for path in sorted((tmp_path / "out/labels").iterdir())] == [
        "a__1.png",
        "b__1.png",
    ]
    told = {left.first: (left.code, left.why) for left in result.left_out}
    assert {name: code for name, (code, _) in told.items()} == {
        "c": "unreadable",
        "d": "missing-image",
        "e": "grid-mismatch",
        "f": "unreadable",
        "g": "duplicate-file",
        "h": "empty-label",
    }
    assert all("\n" not in why for _, why in told.values())
    written = json.loads((tmp_path / "out/import.json").read_text(encoding="utf-8"))
    assert written["left_out"] == json.loads(json.dumps(result.plain()))["left_out"]
    assert str(tmp_path) not in json.dumps(written)


def test_nothing_usable_is_an_error_that_lists_why_and_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    for path in source.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="none of its 2 pictures can be used") as caught:
        import_labels(source, tmp_path / "out")
    assert len(caught.value.problems) == 2 and not (tmp_path / "out").exists()
    for path in source.rglob("*.json"):
        path.unlink()
    with pytest.raises(UsageError, match="holds no annotations that medseg recognises"):
        import_labels(source, tmp_path / "out")


def test_a_folder_in_use_is_refused(source: Path) -> None:
    with pytest.raises(UsageError, match="not an empty folder"):
        import_labels(source, source)


def test_pictures_without_any_shape_stay_as_negatives_and_the_next_command_says_so(
    source: Path, tmp_path: Path
) -> None:
    annotate(source / "b/1.json")
    result = import_labels(source, tmp_path / "out", "cells_2d")
    assert counts(label(tmp_path / "out", "b__1")) == {0: 80}
    assert result.next == (f"medseg train --task cells_2d --data {tmp_path / 'out'} -o run --skip-broken",)


def test_turned_photographs_are_written_upright_as_labelme_shows_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    save_image(tmp_path / "in/t.jpg", exif=exif)
    annotate(tmp_path / "in/t.json", box("x", 0, 0, 1, 3), image="t.jpg", size=(10, 8))
    import_labels(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "in/t.jpg") as turned, Image.open(tmp_path / "out/images/t.png") as upright:
        assert np.array_equal(np.rot90(np.asarray(turned), -1), np.asarray(upright))
        assert not upright.getexif()
    assert np.argwhere(label(tmp_path / "out", "t")).max(axis=0).tolist() == [3, 1]


@pytest.mark.parametrize(("task", "highest"), [(None, 1), ("cells_2d", 9), (make_task(labels={"cell": 1}), 1)])
def test_instance_maps_keep_their_numbers_where_the_task_takes_every_value(
    tmp_path: Path, task: str | Task | None, highest: int
) -> None:
    numbers = np.zeros(SIZE, dtype=np.uint16)
    numbers.ravel()[:18:2] = np.arange(1, 10)
    for name, array in (("a", numbers), ("b", numbers * (numbers < 6))):
        save_image(tmp_path / f"in/{name}.png")
        Image.fromarray(array).save(tmp_path / f"in/{name}_masks.png")
    options = ImportOptions(format="instances", undeclared=None)
    if isinstance(task, Task):
        task = make_task(labels={"cell": {"value": 1, "names": ["object"]}})
    result = import_labels(tmp_path / "in", tmp_path / "out", task, options)
    assert [(row.images, row.shapes) for row in result.classes] == [(2, 14)]
    assert label(tmp_path / "out", "a").max() == highest
    with pytest.raises(UsageError, match="--partial is for shapes"):
        import_labels(tmp_path / "in", tmp_path / "no", None, ImportOptions(format="instances", partial=True))


def test_names_are_unique_and_can_name_files_everywhere() -> None:
    paths = ["x/Train/a", "x/Train/A", "x/Test/a", 'x/Test/b:"?', "x/../.hidden"]
    assert case_names(paths) == ["Train__a", "Train__A-2", "Test__a", "Test__b___", "hidden"]
    assert case_names(["only/one"]) == ["one"] and case_names([]) == []
    assert case_names(["..", "/"]) == ["image", "image-2"]


def test_a_zip_archive_is_imported_like_its_folder(source: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", source))
    before = set(tmp_path.iterdir())
    result = import_labels(archive, tmp_path / "out")
    assert result.images == 2 and counts(label(tmp_path / "out", "b__1")) == {0: 76, 1: 4}
    assert set(tmp_path.iterdir()) == before | {tmp_path / "out"}
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(FormatError, match="cannot be unpacked"):
        import_labels(archive, tmp_path / "again")


def test_dicom_goes_its_own_way(tmp_path: Path) -> None:
    volume = Volume(np.zeros((1, 4, 4, 2), np.float32), Geometry(np.eye(4), (4, 4, 2)))
    write_series(volume, tmp_path / "scans/ct", "test")
    with pytest.raises(UsageError, match="holds no DICOM SEG or RTSTRUCT"):
        import_labels(tmp_path / "scans", tmp_path / "out")
    with pytest.raises(UsageError, match="--partial and --undeclared are not meant"):
        import_labels(tmp_path / "scans", tmp_path / "out", None, ImportOptions(partial=True))


def test_the_python_api_offers_it(source: Path, tmp_path: Path) -> None:
    result = medseg.import_labels(source, tmp_path / "out", options=medseg.ImportOptions(format="labelme"))
    assert result.plain()["images"] == 2


def test_the_task_on_the_page_about_labels_loads() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/labels.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert parse_task(yaml.safe_load(text), "docs/labels.md").ignore == 255
