"""What every verb says and how: errors, notes and progress on stderr, results and JSON on stdout."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


def report_error(message: str) -> None:
    """One line on stderr."""
    typer.echo(f"lightningdrag: error: {' '.join(message.split())}", err=True)


def describe(error: Exception) -> str:
    """An error in words; the system's begin with the file."""
    if not isinstance(error, OSError):
        return str(error)
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename is not None else reason


def need(*modules: str) -> None:
    """Import what a long run would miss at its end; ``Verbs`` names the extra that brings it."""
    for module in modules:
        importlib.import_module(module)


def note(message: str) -> None:
    """A remark that does not belong to the result, on stderr."""
    typer.echo(f"lightningdrag: {message}", err=True)


def print_json(record: dict[str, Any]) -> None:
    """A result for programs, on stdout."""
    typer.echo(json.dumps(record, indent=2, ensure_ascii=False))


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that ``callback(step, total)`` moves, if someone is looking."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda step, total: bar.update(task, completed=step, total=total)
