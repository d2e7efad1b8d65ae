"""Every problem of every case is told at once, each naming its file."""

from __future__ import annotations

import numpy as np

from medseg.core.events import Progress
from medseg.data.check import check_cases
from medseg.data.layouts import find_cases


def test_all_problems_of_all_cases_are_told_together(tmp_path, write, task, blob):
    def pair(name, image=None, label=blob, **where):
        write(f"images/{name}.nii.gz", image)
        write(f"labels/{name}.nii.gz", label, **where)

    pair("fine")
    pair("empty", label=np.zeros((6, 5, 4)))
    pair("grid", label=blob[:, :, :3])
    pair("undeclared", label=5 * blob)
    pair("flat", np.zeros((6, 5, 1)), blob[:, :, 1:2])
    pair("channels", np.zeros((2, 6, 5, 4))[:1])
    pair("both_broken", label=7 * blob)
    (tmp_path / "images/both_broken.nii.gz").write_bytes(b"")
    (tmp_path / "images/text.nii.gz").write_text("no scan")
    write("labels/text.nii.gz", blob)
    cases = find_cases(task(), tmp_path).cases
    events = []
    problems = check_cases(cases, task(), events.append)
    found = {(problem.case, problem.code) for problem in problems}
    assert {pair for pair in found if pair[0] not in ("text", "both_broken")} == {
        ("empty", "empty-label"),
        ("grid", "grid-mismatch"),
        ("undeclared", "undeclared-label"),
        ("flat", "wrong-dimensions"),
    }
    assert sum(case == "both_broken" for case, _ in found) == 2 and sum(case == "text" for case, _ in found) == 1
    for problem in problems:
        assert f"{problem.case}.nii.gz" in problem.message and "\n" not in problem.message
    assert events[-1] == Progress("checking the cases", len(cases), len(cases))


def test_channels_must_fit(tmp_path, write, task, blob):
    write("images/a.nii.gz")
    write("labels/a.nii.gz", blob)
    two = task(modality="MR", channels=["T1", "T2"])
    assert [problem.code for problem in check_cases(find_cases(two, tmp_path).cases, two)] == ["wrong-channels"]


def test_four_dimensions_are_refused(tmp_path, write, task, blob):
    import nibabel

    (tmp_path / "images").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 4, 3), np.float32), np.eye(4)), tmp_path / "images/a.nii.gz")
    write("labels/a.nii.gz", blob)
    problems = check_cases(find_cases(task(), tmp_path).cases, task())
    assert [problem.code for problem in problems] == ["multi-volume"]


def test_an_ignored_map_is_empty(tmp_path, write, task, blob):
    write("images/a.nii.gz")
    write("labels/a.nii.gz", 9 * blob)
    ignoring = task(ignore=9)
    assert [p.code for p in check_cases(find_cases(ignoring, tmp_path).cases, ignoring)] == ["empty-label"]


def test_stacks_without_a_spacing_do_not_go_with_stacks_that_state_one(tmp_path, write, task, blob):
    for name, spacing in (("known", (5e-4, 5e-4, 2e-3)), ("unknown", (1, 1, 1))):
        write(f"images/{name}.tif", np.arange(120).reshape(6, 5, 4), spacing)
        write(f"labels/{name}.tif", blob, (1, 1, 1))
    cells = task(modality="microscopy")
    cases = find_cases(cells, tmp_path).cases
    assert [(problem.case, problem.code) for problem in check_cases(cases, cells)] == [("unknown", "unknown-spacing")]
    assert check_cases(cases[1:], cells) == check_cases(cases[:1], cells) == []
