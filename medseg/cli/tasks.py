"""`medseg tasks`: what ships with medseg."""

from __future__ import annotations

from medseg.cli.options import Debug, Json


def tasks(as_json: Json = False, debug: Debug = False) -> None:
    """List the tasks that ship with medseg.

    \b
    Example:
      medseg tasks
      medseg tasks --json
    """
    from medseg.cli.render import print_json, print_table
    from medseg.workflows.tasks import tasks as shipped

    found = shipped()
    if as_json:
        print_json([task.plain() for task in found])
        return
    print_table(
        ["task", "modality", "dimensions", "labels", "description"],
        [[task.name, task.modality, f"{task.dimensions}D", ", ".join(task.labels), task.description] for task in found],
    )
