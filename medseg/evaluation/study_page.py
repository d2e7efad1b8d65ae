"""study.html: what more labelled cases are worth, which model to take at how many, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.evaluation.compare_page import number, scaled, significant
from medseg.evaluation.learning_curve import FEWEST, Law
from medseg.evaluation.plots import Curve, curve_plot
from medseg.evaluation.results_page import Section, Table, TableCell, results_page

_BEYOND = 1.5  # how far past the largest number of cases the fitted law is drawn
_STEPS = 24


def study_page(told: Mapping[str, Any]) -> str:
    """The page from study.json as plain data."""
    study, effort = told["study"], told["effort"]
    each = f"{effort['steps']} steps" if effort["seconds"] is None else f"{effort['seconds']:.3g} s"
    subtitle = (
        f"{study['task']} · {len(told['trainings'])} trainings of {each} · {study['subsets']} random "
        f"subset{'s' * (study['subsets'] != 1)}, {study['seeds']} seed{'s' * (study['seeds'] != 1)}, {study['folds']} "
        f"fold{'s' * (study['folds'] != 1)} · {told['held_out_cases']} held-out cases of "
        f"{told['held_out_patients']} patients"
    )
    sections = [
        Section("", promises(told), lead=True),
        Section("Learning curve", drawing=_drawing(told), table=_points(told), notes=_curve_notes(told)),
        Section("Which model at how many cases", table=_ranking(told), notes=_ranking_notes(told)),
        _model_section(told),
        *_step_sections(told),
        Section("What it cost", table=_costs(told)),
        Section("How it was done", _terms(told), notes=_failures(told)),
    ]
    shown = [one for one in sections if any((one.texts, one.drawing, one.table))]
    title = study["description"] or study["name"]
    return results_page(title, subtitle, shown, "study.json and study.csv")


def promises(told: Mapping[str, Any]) -> list[str]:
    """'With 5 more labelled cases than 16 expect +0.02 ± 0.01 Dice', for every model."""
    texts = []
    for model, one in told["curves"].items():
        promise = one["expectation"]
        if promise is None:
            last = one["points"][-1:]
            reached = "".join(f"; Dice {p['mean']:.3f} with {p['cases']}" for p in last)
            texts.append(f"`{model}`: fewer than {FEWEST} numbers of cases were trained, too few for a law{reached}.")
            continue
        reach = promise["plus_minus"]
        sure = f" ({promise['note']})" if reach is None else f" ± {reach:.3f} (95 %)"
        reached = one["points"][-1]["mean"]
        texts.append(
            f"`{model}`: Dice {reached:.3f} with {promise['start']} labelled cases; with {promise['more']} more expect "
            f"{promise['gain']:+.3f}{sure}."
        )
    return texts


# ---- the curve ------------------------------------------------------------------------------


def _drawing(told: Mapping[str, Any]) -> str:
    curves = []
    for model, one in told["curves"].items():
        if not one["points"]:
            continue
        points = [(p["cases"], p["mean"], p["low"], p["high"]) for p in one["points"]]
        dots = [(float(count), value) for witness in one["witnesses"] for count, value in witness.items()]
        fitted: list[tuple[float, float]] = []
        if one["law"] is not None:
            law, first, last = Law(**one["law"]), points[0][0], _BEYOND * points[-1][0]
            places = [first * (last / first) ** (step / _STEPS) for step in range(_STEPS + 1)]
            fitted = [(n, law(n)) for n in places]
        curves.append(Curve(model, points, dots, fitted))
    return curve_plot(curves, "labelled cases", "Dice over the number of labelled cases") if curves else ""


def _points(told: Mapping[str, Any]) -> Table | None:
    numbers = told["study"]["cases"]
    best = {one["cases"]: _leader(one["means"]) for one in told["counts"]}
    rows = []
    for model, one in told["curves"].items():
        points = {p["cases"]: p for p in one["points"]}
        cells = []
        for count in numbers:
            p = points.get(count)
            if p is None:
                cells.append(TableCell("–"))
                continue
            ends = "" if p["low"] is None else f"{max(0.0, p['low']):.3f} – {min(1.0, p['high']):.3f}"
            cells.append(TableCell(f"{p['mean']:.3f}", ends, "best" if best.get(count) == model else ""))
        rows.append([TableCell(model), *cells])
    return Table(("Dice with", *(f"{count} cases" for count in numbers)), rows)


def _leader(means: Mapping[str, float | None]) -> str:
    known = [(value, model) for model, value in means.items() if value is not None]
    return max(known)[1] if len(known) > 1 else ""


def _curve_notes(told: Mapping[str, Any]) -> list[str]:
    study = told["study"]
    drawn = study["subsets"] if study["subsets"] > 1 else study["seeds"]
    of = "random subsets of the training cases" if study["subsets"] > 1 else "seeds (one subset only)"
    notes = [
        f"Dots: single {of}; marks: their means; dashed: Dice = top − scale · cases^(−exponent), fitted to the means."
    ]
    if drawn < FEWEST:
        notes.append(f"No interval is given: {drawn} {of} are fewer than {FEWEST}.")
    else:
        notes.append(
            f"Intervals: 95 %, Student's t over {drawn} {of}. They say how much the draw of the training cases "
            "matters, not how much other patients would."
        )
        notes.append(
            "The gain is the mean of two laws, one with a free ceiling and one that climbs to 1; its ± reaches over "
            "both laws' jackknife intervals over the subsets, and what the law misses of the means."
        )
    return notes


# ---- models beside each other ---------------------------------------------------------------


def _ranking(told: Mapping[str, Any]) -> Table | None:
    if len(told["study"]["models"]) < 2:
        return None
    rows = []
    for one in told["counts"]:
        ranking = one["ranking"]
        if not ranking or not ranking["models"]:
            continue
        order = " > ".join(ranking["models"])
        rows.append(
            [
                TableCell(f"{one['cases']} cases"),
                TableCell(order),
                TableCell(f"{100 * ranking['shares'][0][0]:.0f} %"),
                TableCell(number(ranking["tau"], ".2f")),
            ]
        )
    return Table(("Trained on", "ranking by mean Dice", "first of them leads in", "mean tau"), rows) if rows else None


def _ranking_notes(told: Mapping[str, Any]) -> list[str]:
    if len(told["study"]["models"]) < 2:
        return []
    notes = list(dict.fromkeys(one["ranking"]["note"] for one in told["counts"] if one["ranking"]))
    text = (
        "Held-out patients are drawn again and again (bootstrap): in how many draws the leader leads, and Kendall's "
        "tau between the drawn rankings and this one (1: always the same)."
    )
    return [text, *(note for note in notes if note)]


def _model_section(told: Mapping[str, Any]) -> Section:
    tests = [test for one in told["counts"] for test in one["tests"]]
    return Section("Differences between models", table=_model_map(told), notes=_test_notes(tests, "a column"))


def _model_map(told: Mapping[str, Any]) -> Table | None:
    """Pairs of models down, numbers of cases across."""
    numbers = [one["cases"] for one in told["counts"]]
    found: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for one in told["counts"]:
        for test in one["tests"]:
            found.setdefault((test["first"], test["second"]), {})[one["cases"]] = test
    rows = [
        [TableCell(f"{first} – {second}"), *(_tested(tests.get(count)) for count in numbers)]
        for (first, second), tests in found.items()
    ]
    return Table(("Pair", *(f"{count} cases" for count in numbers)), rows) if rows else None


def _step_sections(told: Mapping[str, Any]) -> list[Section]:
    """For each model a map of numbers of cases against numbers of cases."""
    numbers = [str(count) for count in told["study"]["cases"]]
    sections = []
    for model, tests in told["steps"].items():
        known = {(test["first"], test["second"]): test for test in tests}
        rows = [
            [TableCell(f"{less} cases"), *(_tested(known.get((less, more)), turned=True) for more in numbers[1:])]
            for less in numbers[:-1]
        ]
        if known:
            table = Table((f"{model}: from", *(f"to {more}" for more in numbers[1:])), rows)
            sections.append(Section(f"Does more help? {model}", table=table, notes=_test_notes(tests, "the map")))
    return sections


def _tested(test: Mapping[str, Any] | None, turned: bool = False) -> TableCell:
    """A difference and its corrected p; turned: second minus first."""
    if test is None or test["difference"] is None:
        return TableCell("")
    difference = -test["difference"] if turned else test["difference"]
    kind = ("good" if difference > 0 else "bad") if significant(test) else ""
    return TableCell(f"{difference:+.3f}", f"p = {test['p_holm']:.2g}", kind)


def _test_notes(tests: Sequence[Mapping[str, Any]], over: str) -> list[str]:
    text = f"Coloured: significant at .05 (Wilcoxon signed-rank over held-out patients, Holm correction over {over})."
    return [text, *dict.fromkeys(test["note"] for test in tests if test["note"])]


# ---- the rest -------------------------------------------------------------------------------


def _costs(told: Mapping[str, Any]) -> Table:
    rows = []
    for model in told["study"]["models"]:
        mine = [row for row in told["costs"] if row["model"] == model and row["trainings"]]
        if not mine:
            rows.append([TableCell(model, "could not run"), *[TableCell("–")] * 6])
            continue
        peaks = [row["peak_bytes"] for row in mine if row["peak_bytes"] is not None]
        seconds = sum(row["seconds"] * row["trainings"] for row in mine)
        rows.append(
            [
                TableCell(model, f"{sum(row['trainings'] for row in mine)} trainings"),
                TableCell(scaled(mine[0]["parameters"], 1e-6, " M")),
                TableCell(scaled(mine[0]["multiply_adds"], 1e-9, " G"), "×".join(map(str, mine[0]["patch"]))),
                TableCell(f"{min(row['steps'] for row in mine):.0f} – {max(row['steps'] for row in mine):.0f}"),
                TableCell(f"{seconds:.0f}"),
                TableCell(number(mine[-1]["inference_ms"], ".0f")),
                TableCell(scaled(max(peaks) if peaks else None, 1e-6, " MB")),
            ]
        )
    names = ("parameters", "multiply-adds", "steps", "training [s], all", "inference [ms]", "peak memory")
    return Table(("Model", *names), rows)


def _terms(told: Mapping[str, Any]) -> list[str]:
    return [
        "Subsets are nested (the fewer cases are among the more) and keep patients whole; every model learnt from the "
        "same subsets with the same seeds, and was scored once, with its last weights, on cases that none had seen.",
        *(note[:1].upper() + note[1:] + "." for note in told["notes"]),
    ]


def _failures(told: Mapping[str, Any]) -> list[str]:
    return [f"`{one['key']}` failed: {one['reason']}" for one in told["trainings"] if one["state"] == "failed"]
