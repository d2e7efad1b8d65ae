"""A batch on a Ray cluster of two nodes, one of which dies half-way: all done, and the ledger knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.batch.ledger import State, read_ledger
from medseg.core.events import Event, Progress
from medseg.workflows.predict import PredictOptions, predict

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def test_a_node_that_dies_costs_nothing(
    cluster: Any, write_scan: Callable[..., Path], bundle_folder: Path, tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1)]
    for number in range(24):
        write_scan(tmp_path / "in" / f"scan_{number:02}.nii.gz", number)
    alone = predict(tmp_path / "in", bundle_folder, tmp_path / "alone", PredictOptions("cpu", previews=False))

    def listener(event: Event) -> None:
        if isinstance(event, Progress) and event.done >= 8 and nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    options = PredictOptions("cpu", previews=False, executor="ray", address=cluster.address, workers=2)
    result = predict(tmp_path / "in", bundle_folder, tmp_path / "out", options, listener)
    assert not nodes
    assert [(row.scan, row.status) for row in result.rows] == [(row.scan, row.status) for row in alone.rows]
    for row in result.rows:
        assert row.output is not None
        ours, theirs = (nib.load(tmp_path / folder / row.output).get_fdata() for folder in ("out", "alone"))
        # Other workers may round otherwise where two labels are level; more than one voxel was not seen.
        assert np.count_nonzero(ours != theirs) <= 2
    entries = read_ledger(tmp_path / "out")[0]
    assert len(entries) == 24 and {entry.state for entry in entries} <= {State.DONE, State.REVIEW}
    again = predict(tmp_path / "in", bundle_folder, tmp_path / "out", options)
    assert again.rows == result.rows
