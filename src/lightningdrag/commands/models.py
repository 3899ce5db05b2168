"""``lightningdrag models``: which there are, fetch them, verify them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lightningdrag.commands.console import note, print_json, report_error

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the ``models`` verb with its own: list (the default), fetch, verify."""
    group = typer.Typer(help="List models, fetch their weights, verify them.", rich_markup_mode=None)
    group.callback(invoke_without_command=True)(_default)
    group.command("list")(show)
    group.command("fetch")(fetch)
    group.command("verify")(verify)
    app.add_typer(group, name="models")


def _default(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        show(as_json)
    elif as_json and context.invoked_subcommand == "fetch":
        raise typer.BadParameter("fetch prints no result", param_hint="--json")
    else:
        context.default_map = {verb: {"as_json": as_json} for verb in ("list", "verify")}


def show(as_json: Json = False) -> None:
    """List the models: where from, size, licence, SHA-256, and whether they are here."""
    from lightningdrag.checkpoints.catalogue import MODELS, model_info

    models = [model_info(name) for name in MODELS]
    if as_json:
        print_json({"models": [asdict(model) for model in models]})
        return
    for model in models:
        typer.echo(f"{model.name}  {model.summary}")
        state = "here" if model.ready else f"not here; lightningdrag models fetch {model.name}"
        typer.echo(f"    {_size(model.size)}, {state}")
        typer.echo(f"    from     {model.source}")
        typer.echo(f"    licence  {model.licence}")
        for path, checksum in model.sha256.items():
            typer.echo(f"    sha256   {checksum}  {path}")


def fetch(name: Annotated[str, typer.Argument(help="A model's name, or a hub id OWNER/NAME.")]) -> None:
    """Download a model's weights from the hub and verify them; what is here is not fetched again."""
    from lightningdrag.checkpoints import catalogue

    catalogue.fetch(name)
    note(f"{name} is here")


def verify(
    name: Annotated[str, typer.Argument(help="A model's name.")] = "builtin", as_json: Json = False
) -> None:
    """Compare a model's files with their checksums; exit code 1 if one is missing or damaged."""
    from lightningdrag.checkpoints import catalogue

    checks = list(catalogue.verify(name))
    if as_json:
        files = [
            {"path": str(c.path), "expected": c.expected, "actual": c.actual, "ok": c.ok} for c in checks
        ]
        print_json({"model": name, "ok": all(c.ok for c in checks), "files": files})
    else:
        for check in checks:
            state = "ok" if check.ok else "missing" if check.actual is None else "damaged"
            place = catalogue.path_on_hub(check.path) if check.actual is None else check.path
            typer.echo(f"{state:8}{place}")
    if not all(check.ok for check in checks):
        absent = all(check.actual is None for check in checks)
        fetch = f"not here; run: lightningdrag models fetch {name}"
        report_error(f"{name} is {fetch if absent else 'incomplete or damaged'}")
        raise typer.Exit(1)


def _size(size: int) -> str:
    if size < 1e6:
        return f"{size / 1e3:.0f} kB" if size else "no weights"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
