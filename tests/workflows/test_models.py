"""`medseg models`: the list, a task's costs, one network's layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medseg.cli.app import app
from medseg.core.errors import PlanError, UsageError
from medseg.core.plan import NetworkSpec, Normalization, Plan, to_plain
from medseg.nets import NETWORKS
from medseg.workflows import models as workflow


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A bundle's plan, as far as the layers need it."""
    spec = NetworkSpec("unet", 3, 1, 2, (4, 8), ((1,) * 3, (2,) * 3), ((3,) * 3,) * 2)
    plan = Plan("t", 3, (1, 1, 1), (Normalization("zscore"),), (16, 16, 8), 2, spec)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "plan.json").write_text(json.dumps(to_plain(plan)))
    return tmp_path


@pytest.mark.slow
def test_json_lists_every_network_with_its_figures() -> None:
    result = CliRunner().invoke(app, ["models", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert set(rows) == set(NETWORKS) and not any(row["problem"] for row in rows.values())
    assert rows["unet2015"]["parameters"] == 31_030_658 and rows["unet2015"]["ndim"] == 2
    assert all(row["multiply_adds"] > 1e8 and row["peak_memory_bytes"] > 1e8 for row in rows.values())


@pytest.mark.slow
def test_a_task_gives_the_costs_of_its_plan() -> None:
    rows = {row.name: row for row in workflow.models("cells_2d")}
    assert rows["unet"].ndim == 2 and rows["unet"].patch != (96, 96, 96)
    assert rows["unet"].planned_parameters and rows["unet"].parameters == 31_190_210
    assert all(row.planned_parameters or row.problem for row in rows.values())


def test_layers_of_a_runs_plan_are_drawn(run: Path) -> None:
    result = CliRunner().invoke(app, ["models", "unet", "--plan", str(run)])
    assert result.exit_code == 0
    assert "at a patch of 16×16×8" in result.stdout and "encoder.0.0" in result.stdout
    first, last = (line.split() for line in (result.stdout.splitlines()[2], result.stdout.splitlines()[-2]))
    assert first[:3] == ["encoder.0.0", "Conv3d", "4×16×16×8"] and last[0] == "heads.0"


def test_layers_of_the_reference_as_json() -> None:
    result = CliRunner().invoke(app, ["models", "lraspp_mobilenetv3", "--json"])
    drawn = json.loads(result.stdout)
    assert drawn["parameters"] == 3_221_538 == sum(layer["parameters"] for layer in drawn["layers"])


def test_what_cannot_be_shown_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="there is no network"):
        workflow.layers("nonet")
    with pytest.raises(UsageError, match="is no medseg run"):
        workflow.layers("fcn8s", run)
    with pytest.raises(UsageError, match="neither a run nor a bundle"):
        workflow.layers("unet", tmp_path / "nothing")
    for arguments in (["--plan", str(run)], ["unet", "--task", "cells_2d"]):
        assert CliRunner().invoke(app, ["models", *arguments]).exit_code == 2
