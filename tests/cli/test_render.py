"""Progress lines and tables."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from medseg.cli import render
from medseg.core.events import Message, Progress


def test_plain_progress_does_not_flood() -> None:
    clock = SimpleNamespace(now=0.0)
    stream = io.StringIO()
    listener = render.PlainProgress(stream, clock=lambda: clock.now)
    for step in range(1001):
        clock.now = step * 0.02  # 20 s in all
        listener(Progress("training", step, 1000, {"loss": 1.0 - step / 2000}, seconds_left=20 - clock.now))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("training: 0 %")
    assert lines[-1] == "training: 100 %  1000/1000  loss 0.5"
    assert len(lines) == 11


def test_plain_progress_speaks_at_least_every_ten_seconds_and_once_per_stage() -> None:
    clock = SimpleNamespace(now=0.0)
    stream = io.StringIO()
    listener = render.PlainProgress(stream, clock=lambda: clock.now)
    for step in range(60):
        clock.now = float(step)
        listener(Progress("training", step, 10000))
    listener(Progress("testing", 1, 1))
    listener(Progress("testing", 1, 1))
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["training"] * 6 + ["testing"]


def test_messages_name_their_level() -> None:
    stream = io.StringIO()
    listener = render.PlainProgress(stream)
    listener(Message("planned"))
    listener(Message("no flips", "warning"))
    assert stream.getvalue() == "planned\nwarning: no flips\n"


def test_fraction_overrides_done_of_total() -> None:
    assert render.fraction_done(Progress("x", 1, 10, fraction=0.5)) == 0.5
    assert render.fraction_done(Progress("x", 0, 0)) == 1.0
    assert render.fraction_done(Progress("x", 3, 2)) == 1.0


def test_terminal_progress_draws_stages_and_messages(capsys: pytest.CaptureFixture[str]) -> None:
    with render.TerminalProgress() as listener:
        listener(Message("careful [now]", "warning"))
        listener(Progress("training", 5, 10, {"validation_dice": 0.9123}, seconds_left=61))
        listener(Progress("training", 10, 10, {"validation_dice": 0.93}))
    shown = capsys.readouterr()
    assert "careful [now]" in shown.err and "validation dice 0.93" in shown.err and "100%" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (130, "2 min 10 s"), (3905, "1 h 05 min"), (-3, "0 s")]
)
def test_seconds(seconds: float, text: str) -> None:
    assert render.seconds_text(seconds) == text


def test_plain_tables_are_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_table(["case", "Dice"], [["a" * 100, 0.91234], ["b", None]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{'a' * 100}  0.912"
    assert lines[2].split() == ["b", "-"]
    assert lines[2].index("-") == lines[0].index("Dice")
