"""How good the network is while it learns: the sliding window of prediction on a few validation cases."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from medseg.data.cache import PreparedCase
from medseg.inference import sliding_window
from medseg.metrics.confusion import Counts, confusion
from medseg.nets import build
from medseg.preprocess import restore
from medseg.training.batches import Batches

State = dict[str, torch.Tensor]
_MAX_CASES = 8


class Watcher:
    """Scores weights on up to eight validation cases, on the preprocessed grid.

    seconds: what scoring a case of mean size takes, measured on the first one (where there is none, on a
    training case) when the watcher was made, with the untrained network; `limit` keeps one look within
    that many seconds (None: no limit).
    """

    def __init__(
        self, cases: Sequence[PreparedCase], batches: Batches, precision: torch.dtype, limit: float | None = None
    ) -> None:
        self.plan, self.device, self.precision = batches.plan, batches.device, precision
        self.mirror = None if batches.context.mirror is None else batches.context.mirror.tolist()
        self.network = build(self.plan.network).to(self.device).eval()
        timed = cases or batches.cases
        sizes = [case.label.size for case in timed]
        self.seconds = self._time_of(timed[0]) * float(np.mean(sizes)) / sizes[0]
        count = min(_MAX_CASES, len(cases))
        if limit is not None and self.seconds > 0:
            count = max(1, min(count, int(limit / self.seconds)))
        # Spread over the list rather than its head: neighbouring ids are often alike.
        self.cases = [cases[i * len(cases) // count] for i in range(count)] if cases else []

    def __call__(self, state: State) -> float | None:
        """Mean Dice over labels and watched cases with these weights, None where nothing is defined."""
        if not self.cases:
            return None
        self.network.load_state_dict(state)
        counts = [count for case in self.cases for count in self._counts(case)]
        dice = [2 * c.tp / (c.predicted + c.reference) for c in counts if c.predicted + c.reference]
        return float(np.mean(dice)) if dice else None

    def _counts(self, case: PreparedCase) -> list[Counts]:
        found = self._scores(case).argmax(0).to(torch.uint8).numpy()
        values = range(1, self.plan.network.out_channels)
        return list(confusion(found, case.label, values).counts.values())

    def _scores(self, case: PreparedCase) -> torch.Tensor:
        image = torch.from_numpy(case.image)
        return sliding_window(self.network, image, self.plan, self.device, self.precision, self.mirror)

    def _time_of(self, case: PreparedCase) -> float:
        started = time.monotonic()
        restore(self._scores(case), case.trace)
        return time.monotonic() - started
