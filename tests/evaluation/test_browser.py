"""The pages in headless Chromium: the table is sorted and searched, the viewer opened, turned and clicked.

A script appended to a copy of the page acts as the reader and leaves what it saw in the document, which
Chromium prints. Skipped where there is no Chromium.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.labels import Label
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.models import compare_reports, write_comparison
from medseg.evaluation.report import build_report
from medseg.evaluation.report_page import Illustrations, report_html
from medseg.evaluation.score import score_case
from medseg.evaluation.slides import Slides, make_slides

LABELS = (Label("lung", 1, color=(230, 159, 0)), Label("heart", 2, color=(86, 180, 233)))
GRID = Geometry(np.diag([-1.0, -1.0, 2.0, 1.0]), (20, 16, 40))
MODELS = ("one", "two")
_READER = """
<script>
window.addEventListener("load", async () => {
  const seen = {}, all = what => [...document.querySelectorAll(what)], one = what => document.querySelector(what);
  const wait = () => new Promise(done => setTimeout(done, 5));
  const until = async test => { for (let n = 0; n < 400 && !test(); n++) await wait(); };
  const cases = () => all("#cases tbody tr").filter(row => !row.hidden).map(row => row.cells[0].textContent);
  const press = key => (document.activeElement || document.body)
    .dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const pixel = (x, y) => {
    const canvas = one("dialog canvas");
    return [...canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3);
  };
  const said = id => document.getElementById(id).textContent;
  try { STEPS } catch (error) { seen.error = String(error); }
  document.body.dataset.seen = JSON.stringify(seen);
});
</script></body>"""


def _see(page: str, folder: Path, steps: str) -> Any:
    """What the reader's steps (script, in which `seen` is filled) found on the page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium to open the page with")
    path = folder / "page.html"
    path.write_text(page.replace("</body>", _READER.replace("STEPS", steps)), "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    command = [browser, *flags, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=8000", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<body[^>]* data-seen="([^"]*)"', done.stdout)
    assert found is not None, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def _block(low: int, high: int, value: int = 1) -> np.ndarray:
    """A box over slices 10 to 29; low to high along the first axis."""
    array = np.zeros(GRID.shape, np.uint8)
    array[low:high, 4:12, 10:30] = value
    return array


def _map(array: np.ndarray) -> LabelMap:
    return LabelMap(array, GRID, LABELS)


REFERENCE = _map(_block(4, 12) + _block(14, 18, 2))
FOUND = {
    "case 1": _map(_block(4, 12) + _block(14, 18, 2)),  # right
    "case 2": _map(_block(6, 14) + _block(14, 18, 2)),  # a quarter off to the left
    "case 10": _map(_block(4, 12)),  # the heart is missed
}
SCAN = Volume(np.full((1, *GRID.shape), -1000.0, np.float32), GRID)
SCAN.array[0, 2:18, 2:14] = 40.0


def _slides(found: Sequence[LabelMap], case: str) -> Slides:
    return make_slides(case, SCAN, REFERENCE, found, LABELS)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    report = build_report([score_case(case, found, REFERENCE, LABELS) for case, found in FOUND.items()], "test")
    slides = [_slides([found], case) for case, found in FOUND.items()]
    page = report_html(report, Illustrations(slides=slides, labels=LABELS))
    return _see(
        page,
        tmp_path_factory.mktemp("report"),
        """
        seen.worst_first = cases();
        const head = one("#cases thead button");
        head.click(); seen.rising = cases(); seen.sorted = head.parentElement.getAttribute("aria-sort");
        head.click(); seen.falling = cases();
        const field = one("#search"), label = one("#label");
        field.value = "case 1"; field.dispatchEvent(new Event("input"));
        seen.searched = cases(); seen.count = said("found");
        label.value = "heart"; label.dispatchEvent(new Event("change"));
        seen.of_heart = cases();
        field.value = label.value = ""; field.dispatchEvent(new Event("input"));

        const dialog = one("dialog");
        const button = all("[data-slides]").find(each => each.textContent === "case 2");
        button.focus(); button.click(); await until(() => dialog.dataset.shown);
        seen.opened = [dialog.open, said("viewer-title"), said("viewer-slice"), document.activeElement.id];
        seen.edges = all(".edge").map(edge => edge.textContent);
        seen.said = said("viewer-said"); seen.key = said("viewer-key");
        seen.inside = pixel(.5, .5); seen.air = pixel(.02, .5);
        press("p"); seen.bare = pixel(.5, .5);
        const select = one("#viewer-windows select");
        seen.window = select.value;
        select.value = "lung"; select.dispatchEvent(new Event("change", { bubbles: true })); seen.lung = pixel(.5, .5);
        press("d"); seen.pressed = all("[data-layer]").map(each => each.getAttribute("aria-pressed"));
        seen.difference = said("viewer-key"); seen.missed = pixel(.25, .5); seen.extra = pixel(.65, .5);
        const range = one("#viewer-range"), before = Number(range.value);
        one("dialog canvas").focus(); press("ArrowUp"); press("ArrowUp"); press("ArrowDown");
        seen.turned = Number(range.value) - before;
        range.value = 0; range.dispatchEvent(new Event("input"));
        seen.first = [said("viewer-slice"), said("viewer-said")];
        const next = one('[data-step="1"]'), back = one('[data-step="-1"]');
        seen.steps = [back.disabled, next.disabled];
        back.disabled || back.click(); await until(() => dialog.dataset.shown !== "case 2");
        seen.neighbour = said("viewer-title");
        one("dialog .bar button").click(); seen.closed = [dialog.open, document.activeElement === button];
        """,
    )


def test_nothing_goes_wrong_on_the_page(seen: Any) -> None:
    assert "error" not in seen


def test_the_worst_case_comes_first_and_heads_sort(seen: Any) -> None:
    assert seen["worst_first"][:2] == ["case 10", "case 2"]
    assert seen["rising"] == ["case 1", "case 1", "case 2", "case 2", "case 10", "case 10"]
    assert seen["falling"] == seen["rising"][::-1] and seen["sorted"] == "ascending"


def test_rows_are_found_by_text_and_by_label(seen: Any) -> None:
    assert set(seen["searched"]) == {"case 1", "case 10"} and seen["count"] == "4 of 6 rows"
    assert sorted(seen["of_heart"]) == ["case 1", "case 10"]


def test_the_viewer_opens_on_the_chosen_case(seen: Any) -> None:
    assert seen["opened"] == [True, "case 2", "11 of 40, axial", "viewer-range"]
    assert seen["edges"] == ["R", "L", "A", "P"]
    assert seen["said"] == "80 pixels agree, 16 missed, 16 too many." and seen["key"] == "lungheart"


def test_layers_and_windows_change_what_is_seen(seen: Any) -> None:
    bare, tinted = np.array(seen["bare"]), np.array(seen["inside"])
    assert np.ptp(bare) == 0 and abs(bare[0] - 255 * 200 / 400) < 12  # 40 HU in the window of soft tissue
    assert tinted == pytest.approx(bare + 0.42 * (np.array(LABELS[0].color) - bare), abs=2)
    assert seen["window"] == "soft tissue" and seen["lung"][0] > 220 and max(seen["air"]) < 12
    assert seen["pressed"] == ["true", "false", "true"] and seen["difference"].startswith("agreementmissed")
    assert seen["missed"][2] > seen["missed"][0] and seen["extra"][0] > seen["extra"][2]


def test_slices_and_cases_are_turned(seen: Any) -> None:
    assert seen["turned"] == 1
    assert seen["first"] == ["9 of 40, axial", "Nothing is marked on this slice."]
    assert seen["steps"] == [False, False] and seen["neighbour"] == "case 10"


def test_closing_gives_the_focus_back(seen: Any) -> None:
    assert seen["closed"] == [False, True]


def test_models_are_chosen_in_the_viewer(tmp_path: Path) -> None:
    other = {case: _map(_block(6, 14)) for case in FOUND}
    reports = {
        name: build_report([score_case(case, found[case], REFERENCE, LABELS) for case in FOUND], "given")
        for name, found in zip(MODELS, (FOUND, other), strict=True)
    }
    slides = [_slides([FOUND[case], other[case]], case) for case in FOUND]
    write_comparison(compare_reports(reports, {}, {}), tmp_path, Illustrations(slides=slides, labels=LABELS))
    seen = _see(
        (tmp_path / "report.html").read_text("utf-8"),
        tmp_path,
        """
        seen.heads = all("#cases th").map(each => each.textContent);
        all("#cases th button")[1].click(); all("#cases th button")[1].click(); seen.best = cases()[0];
        all("[data-slides]").find(each => each.textContent === "case 1").click();
        await until(() => one("dialog").dataset.shown);
        const select = one("#viewer-models select");
        seen.models = [...select.options].map(each => each.text); seen.first = said("viewer-said");
        select.selectedIndex = 1; select.dispatchEvent(new Event("change", { bubbles: true }));
        seen.second = said("viewer-said");
        """,
    )
    assert "error" not in seen
    assert seen["heads"] == ["Case", "one", "two", "Mean", "Apart"] and seen["best"] == "case 1"
    assert seen["models"] == ["one", "two"]
    assert seen["first"] == "96 pixels agree, 0 missed, 0 too many."
    assert seen["second"] == "48 pixels agree, 48 missed, 16 too many."
