"""Does the expected Dice keep its word on cases that were not trained on, and does the review list hold the bad ones?

    python benchmarks/calibration.py RUN [RUN …] [--data FOLDER] [--copies 4] [--json FILE]
    python benchmarks/calibration.py LUNG_RUN --chests 60

Predicts the cases that each run was not trained on (no training), then calibrates on some of them and
looks at the others: with 20 cases or more on random splits, repeated, of which --taught cases are
calibrated on (default: half); with fewer each case in turn by all others. --copies adds copies of every
case, made worse by noise, blur and contrast in steps, so that there are good and bad ones. As copies of
one case are no cases of their own, a calibration gets one of each case, drawn anew for every split; all
copies of the others are asked. --chests takes generated chests instead, whose seeds are none of the
sample data's: as many cases as one likes, for a model of lung_ct.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Scan, Source
from medseg.core.plan import to_plain
from medseg.core.quality import Calibration, HeldOut
from medseg.core.volume import LabelMap, Volume
from medseg.inference.calibration import LEAST_FOR_INTERVAL, Estimator

if TYPE_CHECKING:
    from medseg.inference import Predictor

HALVES_FROM = 2 * LEAST_FOR_INTERVAL


@dataclass(frozen=True, slots=True)
class Known:
    """A prediction whose Dice is known; group: the case that it or its original is."""

    group: str
    case: HeldOut


@dataclass(frozen=True, slots=True)
class Seen:
    """One test case of one split."""

    dice: float
    covered: bool
    width: float
    error: float
    reviewed: bool
    worst: bool  # among the worst tenth of all known cases (at least one)


def main() -> int:
    arguments = _arguments()
    print("| run | held out | Dice | 90 % interval covers | its width | error | reviewed | of the worst tenth |")
    print("|---|---|---|---|---|---|---|---|")
    told = {}
    for run in arguments.runs:
        if arguments.chests:
            known = predict_chests(run, arguments.chests, arguments.copies)
        else:
            known = predict_held_out(run, arguments.data, arguments.copies)
        if len({one.group for one in known}) <= LEAST_FOR_INTERVAL:
            sys.exit(f"{run}: more than {LEAST_FOR_INTERVAL} held-out cases are needed, there are {len(known)}")
        seen = look(known, arguments.repeats, arguments.taught)
        figures = summary(known, seen)
        told[str(run)] = {"figures": figures, "cases": [{"group": k.group, **to_plain(k.case)} for k in known]}
        print(f"| {run.name} | " + " | ".join(figures.values()) + " |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
    return 0


def predict_held_out(run: Path, data: Path | None, copies: int) -> list[Known]:
    """All cases that the run was not trained on through its model, each as it is and made worse `copies` times."""
    from medseg.bundle import Bundle
    from medseg.data.labels import read_case
    from medseg.data.layouts import find_cases
    from medseg.inference import Predictor
    from medseg.workflows.prepare import read_run

    task, root = read_run(run)
    cases = {case.id: case for case in find_cases(task, data or root).cases}
    split: Mapping[str, Any] = json.loads((run / "split.json").read_text(encoding="utf-8"))
    predictor = Predictor(Bundle.load(run), "cpu")
    held_out = sorted(set(cases) - set(split["train"]))
    return [
        Known(name, case) for name in held_out for case in _predict(predictor, *read_case(cases[name], task), copies)
    ]


def predict_chests(run: Path, count: int, copies: int) -> list[Known]:
    """Generated chests through a model of their two lungs."""
    from medseg.bundle import Bundle
    from medseg.inference import Predictor
    from medseg.phantoms import chest
    from medseg.phantoms.write import CHESTS

    predictor = Predictor(Bundle.load(run), "cpu")
    known = []
    for seed in range(CHESTS[-1] + 1, CHESTS[-1] + 1 + count):
        phantom, name = chest(seed), f"chest_{seed}"
        volume = Volume(phantom.volume.array.astype(np.float32), phantom.volume.geometry)
        scan = Scan(Source(Path(name), (Path(name),), "nifti", name), volume, "CT", integral=True)
        known += [Known(name, case) for case in _predict(predictor, scan, phantom.labelmap, copies)]
    return known


def look(known: Sequence[Known], repeats: int, taught_cases: int | None = None) -> list[Seen]:
    """Every test case of every split, judged by what the other side of the split teaches."""
    scored = [one for one in known if one.case.dice is not None]
    limit = np.quantile([_dice(one) for one in scored], 0.1, method="lower")
    seen = []
    for taught, asked in _splits(scored, repeats, taught_cases):
        estimator = Estimator(Calibration(tuple(one.case for one in taught)))
        for one in asked:
            expected, true = estimator.expect(one.case.evidence), _dice(one)
            worst = true <= limit
            if expected is None:  # nothing was found where something is: the gate has its own rule for that
                continue
            low = estimator.threshold is not None and expected.low <= estimator.threshold
            inside = expected.low <= true <= expected.high
            seen.append(Seen(true, inside, expected.high - expected.low, abs(expected.dice - true), low, worst))
    return seen


def summary(known: Sequence[Known], seen: Sequence[Seen]) -> dict[str, str]:
    """The row of the table."""
    dice = np.array([one.dice for one in seen])
    caught = [one.reviewed for one in seen if one.worst]
    return {
        "held out": f"{len(known)} of {len({one.group for one in known})} cases",
        "dice": f"{dice.min():.2f}…{np.median(dice):.2f}…{dice.max():.2f}",
        "covered": f"{np.mean([one.covered for one in seen]):.1%} of {len(seen)}",
        "width": f"{np.median([one.width for one in seen]):.2f}",
        "error": f"{np.mean([one.error for one in seen]):.3f}",
        "reviewed": f"{np.mean([one.reviewed for one in seen]):.0%}",
        "caught": f"{np.mean(caught):.0%} of {len(caught)}",
    }


def _splits(
    known: Sequence[Known], repeats: int, taught: int | None
) -> Iterator[tuple[list[Known], list[Known]]]:  # fmt: skip
    """What is calibrated on, one of each case, and what is asked, all copies of the others."""
    rng = np.random.default_rng(0)
    copies: dict[str, list[Known]] = {}
    for one in known:
        copies.setdefault(one.group, []).append(one)
    groups = sorted(copies)
    if len(groups) < HALVES_FROM:
        draws = repeats // len(groups) if len(known) > len(groups) else 1
        chosen: list[set[str]] = [{group} for group in groups] * max(1, draws)
    else:
        count = len(groups) - (taught or -(-len(groups) // 2))
        chosen = [set(rng.permutation(groups)[:count].tolist()) for _ in range(repeats)]
    for asked in chosen:
        others = [group for group in groups if group not in asked]
        drawn = [copies[group][rng.integers(len(copies[group]))] for group in others]
        yield drawn, [one for group in sorted(asked) for one in copies[group]]


def _predict(predictor: Predictor, scan: Scan, reference: LabelMap, copies: int) -> Iterator[HeldOut]:
    from medseg.evaluation.score import score_case

    for step in range(copies + 1):
        found = predictor.predict(worsened(scan, step, copies))
        if found.evidence is not None:
            scores = score_case(scan.source.name, found.labelmap, reference, found.labelmap.labels)
            yield HeldOut(scores.mean_dice, found.evidence)


def worsened(scan: Scan, step: int, steps: int) -> Scan:
    """The scan with noise, blur and lost contrast, from none at step 0 to strong ones at the last."""
    if step == 0:
        return scan
    from scipy import ndimage

    share = step / steps
    rng = np.random.default_rng(step)
    array = scan.volume.array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    thick = [axis for axis in (1, 2, 3) if array.shape[axis] > 1]
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(array, [2 * share if a in thick else 0 for a in range(4)])
    faded = blurred.mean() + (blurred - blurred.mean()) * (1 - 0.5 * share)
    noisy = faded + rng.normal(0, 0.3 * share * array.std(), array.shape).astype(np.float32)
    kept = np.clip(noisy, low, high)
    whole = np.round(kept) if scan.integral else kept
    return replace(scan, volume=Volume(whole.astype(np.float32), scan.volume.geometry))


def _dice(known: Known) -> float:
    return known.case.dice if known.case.dice is not None else float("nan")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, each with its bundle/ and split.json")
    parser.add_argument("--data", type=Path, help="the cases; default: where the run had them")
    parser.add_argument("--chests", type=int, default=0, help="generated chests to take instead")
    parser.add_argument("--copies", type=int, default=0, help="worse copies of every case")
    parser.add_argument("--repeats", type=int, default=100, help="random splits")
    parser.add_argument("--taught", type=int, help="cases that are calibrated on in each of them (default: half)")
    parser.add_argument("--json", type=Path, help="write evidence, Dice and figures here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
