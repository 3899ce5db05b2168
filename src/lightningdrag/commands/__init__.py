"""The command line: one thin file per verb, each with ``register(app)``.

Exit codes: 0 done; 1 something failed; 2 wrong input or usage, nothing was written; 130 stopped by Ctrl-C.
Errors are one line on stderr. No verb imports torch before its arguments are known to be right.
"""

from __future__ import annotations

import errno
import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lightningdrag import __version__
from lightningdrag.checkpoints.catalogue import FetchError
from lightningdrag.commands.console import describe, report_error
from lightningdrag.memory import is_out_of_memory

VERBS = (
    "edit",
    "ui",
    "batch",
    "serve",
    "models",
    "prepare",
    "train",
    "distill",
    "export",
    "evaluate",
    "bench",
)

EXTRAS = {
    "av": "train",
    "yaml": "train",
    "accelerate": "sd15",
    "peft": "sd15",
    "fastapi": "service",
    "uvicorn": "service",
    "prometheus_client": "service",
    "python_multipart": "service",
    "ray": "ray",
    "jinja2": "report",
    "matplotlib": "report",
}
"""Which extra of the package brings a module that is not in the lean install..."""
WHOLE = {"train": "train", "distill": "train", "export": "train", "prepare": "train", "evaluate": "evaluate"}
"""...and which brings all that a verb needs, but for what is here..."""
APART = ("peft", "ray")
"""...which has an extra of its own."""

FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM)
"""A full disk, a broken one, too little memory: the input was right."""


class Verbs(TyperGroup):
    """Turns what a verb raises into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            extra = EXTRAS.get(module)
            if extra is None:
                raise
            if module not in APART:
                extra = WHOLE.get(str(ctx.invoked_subcommand), extra)
            report_error(f"this needs {error.name}; run in the repository: pip install '.[{extra}]'")
            raise typer.Exit(1) from None
        except (FetchError, ChildProcessError, FloatingPointError) as error:
            report_error(str(error))
            raise typer.Exit(1) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has gone; typer ends quietly
                raise
            report_error(describe(error))
            raise typer.Exit(1 if error.errno in FAILURES else 2) from None
        except ValueError as error:
            report_error(str(error))
            raise typer.Exit(2) from None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            report_error(f"out of memory{_hint(error) if ctx.invoked_subcommand == 'edit' else ''}")
            raise typer.Exit(1) from None


def build_app() -> typer.Typer:
    """The command line with every verb."""
    app = typer.Typer(
        cls=Verbs,
        name="lightningdrag",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(help="Drag a part of a photo to where it should be.")(_options)
    for verb in VERBS:
        importlib.import_module(f"{__name__}.{verb}").register(app)
    return app


def main() -> None:
    """The ``lightningdrag`` program."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # photo.open_photo has a bound of its own, which --max-pixels sets
    try:
        build_app()(prog_name="lightningdrag")
    except KeyboardInterrupt:  # before a verb had begun
        raise SystemExit(130) from None


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lightningdrag {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """What comes before the verb."""


def _hint(error: Exception) -> str:
    """What to try when memory ran out; on a CPU, low-memory is what SD 1.5 does by itself."""
    on_gpu = "out of memory" in str(error)  # torch's words there, and there alone
    return f"; try {'--option low-memory or ' if on_gpu else ''}fewer candidates"
