"""The command line: one file per command. Nothing heavy is imported before a command runs."""

from __future__ import annotations


def main() -> None:
    """Run `medseg`: parse the arguments, call the workflow, exit with its code."""
    from medseg.cli.app import app

    app(prog_name="medseg")
