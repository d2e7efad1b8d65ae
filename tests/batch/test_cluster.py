"""A batch on a Ray cluster of two nodes, one of which dies half-way: all done, and the ledger knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as Ray gives a worker with one CPU: two round otherwise in bfloat16, where two labels are level."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_node_that_dies_costs_nothing(
    cluster: Any, write_scan: Callable[..., Path], bundle_folder: Path, tmp_path: Path, one_thread: None
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
    assert [(row.scan, row.status, row.volumes_ml) for row in result.rows] == [
        (row.scan, row.status, row.volumes_ml) for row in alone.rows
    ]
    for row in result.rows:
        assert row.output is not None
        assert (tmp_path / "out" / row.output).read_bytes() == (tmp_path / "alone" / row.output).read_bytes()
    entries = read_ledger(tmp_path / "out")[0]
    assert len(entries) == 24 and {entry.state for entry in entries} <= {State.DONE, State.REVIEW}
    again = predict(tmp_path / "in", bundle_folder, tmp_path / "out", options)
    assert again.rows == result.rows
