"""The command line: one file per command. Nothing heavy is imported before a command runs."""

from __future__ import annotations


def main() -> None:
    """Run `medseg`: parse the arguments, call the workflow, exit with its code."""
    import sys
    from io import TextIOWrapper

    from medseg.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # File names may hold bytes, and terminals lack signs, that would end a report halfway.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="medseg")
