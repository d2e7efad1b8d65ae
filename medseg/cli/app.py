"""The commands under their names, and what becomes of their errors."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import medseg
from medseg.cli.augment import augment
from medseg.cli.batch import batch
from medseg.cli.compare import compare
from medseg.cli.evaluate import evaluate
from medseg.cli.export_labels import export_labels
from medseg.cli.import_ import import_
from medseg.cli.init import init
from medseg.cli.inspect import inspect
from medseg.cli.models import models
from medseg.cli.options import DEBUG, Debug
from medseg.cli.predict import predict
from medseg.cli.prepare import prepare
from medseg.cli.sample import sample
from medseg.cli.study import study
from medseg.cli.tasks import tasks
from medseg.cli.train import train
from medseg.core.errors import MedsegError, UsageError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_BUG = 70  # sysexits.h: an internal software error
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Newer versions of typer carry their own copy of click, older ones use the package: the base of all
# complaints about arguments is reached through the one that both export.
_ArgumentError: type[Exception] = typer.BadParameter.__bases__[0]


class Commands(TyperGroup):
    """The group of all commands: every error ends as one sentence on stderr and an exit code."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except _ArgumentError as error:
            raise typer.Exit(_explain(error, debug=False)) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of a pipe went away: typer ends quietly
            raise typer.Exit(_explain(error, debug=bool(ctx.meta.get(DEBUG)))) from None


def _explain(error: Exception, debug: bool) -> int:
    """Print the sentence for `error` (after its traceback, if asked for) and return the exit code."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    sentence, code = _verdict(error)
    typer.echo(f"medseg: {sentence}", err=True)
    return code


def _verdict(error: Exception) -> tuple[str, int]:
    if isinstance(error, _ArgumentError):
        return _argument_sentence(error), EXIT_USAGE
    if isinstance(error, UsageError):
        return str(error), EXIT_USAGE
    if isinstance(error, MedsegError):
        return str(error), EXIT_ERROR
    if isinstance(error, MemoryError):
        return "there is not enough memory for this; run again with --debug to see where it ran out", EXIT_ERROR
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror}", EXIT_ERROR
    text = " ".join(str(error).split())
    return f"internal error ({type(error).__name__}: {text}); run again with --debug to see where", EXIT_BUG


def _argument_sentence(error: Exception) -> str:
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "medseg"
    return f"{' '.join(text.split()).rstrip('.')} (see '{command} --help')"


app = typer.Typer(
    name="medseg",
    cls=Commands,
    # Plain help texts: rich's panels would double the time of `medseg --help`.
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"medseg {medseg.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _medseg(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
    debug: Debug = False,
) -> None:
    """From a folder of scans and a few labelled cases to a segmentation model you can trust.

    \b
    Example:
      medseg train --task lung_ct -o run
      medseg predict scans --model run -o predictions
      medseg evaluate predictions references -o scores
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _command in (
    train,
    predict,
    evaluate,
    compare,
    study,
    init,
    inspect,
    prepare,
    augment,
    tasks,
    models,
    sample,
    export_labels,
):
    app.command()(_command)
app.command("import")(import_)  # a word that Python keeps for itself
app.add_typer(batch)
