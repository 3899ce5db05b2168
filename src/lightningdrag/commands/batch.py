"""``lightningdrag batch``: every request of a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightningdrag.commands.console import note, print_json, report_error
from lightningdrag.commands.edit import Device, Dtype, Json, Model, Options
from lightningdrag.drag import FormatError

if TYPE_CHECKING:
    from lightningdrag.editor import DragEditor


def register(app: typer.Typer) -> None:
    """Add the ``batch`` verb."""
    app.command("batch", no_args_is_help=True)(batch)


def batch(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of requests, *.json, each naming its image.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the results.  [default: DIR/results]")] = None,
    model: Model = "builtin",
    device: Device = "auto",
    dtype: Dtype = "auto",
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Run every request of a folder.

    A request that fails does not stop the others. The result of
    NAME.json is NAME with its photo's ending, or .png if that cannot be
    written. Exit code 1 if any failed.
    """
    from rich.console import Console
    from rich.progress import track

    from lightningdrag.checkpoints.catalogue import check_name, check_options
    from lightningdrag.checkpoints.hub import check_dtype

    if not folder.is_dir():
        raise FormatError(f"no such folder: {folder}")
    requests = sorted(folder.glob("*.json"))
    if not requests:
        raise FormatError(f"no requests in {folder}: expected files *.json")
    check_name(model)
    check_dtype(dtype)
    check_options(option or ())
    out = out or folder / "results"
    out.mkdir(parents=True, exist_ok=True)

    from lightningdrag.editor import DragEditor

    editor = DragEditor.from_pretrained(model, device=device, dtype=dtype, options=option or ())
    watched = track(
        requests, "Dragging", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )
    records = [_run(path, out, editor, model) for path in watched]
    failed = sum("error" in record for record in records)
    if as_json:
        print_json({"done": len(records) - failed, "failed": failed, "results": records})
    else:
        typer.echo(f"{len(records) - failed} done, {failed} failed; results in {out}")
    if failed:
        raise typer.Exit(1)


def _run(path: Path, out: Path, editor: DragEditor, model: str) -> dict[str, Any]:
    """One request: its record, or its error."""
    from lightningdrag.commands.job import make_job, run_job, writable_ending
    from lightningdrag.request import EditRequest

    try:
        request = EditRequest.load(path)
        if request.image is None:
            raise FormatError(f"{path} names no image")
        image = str(path.parent / request.image)
        job = make_job(image, request, str(out / f"{path.stem}{writable_ending(image)}"))
        done = run_job(job, editor, model, lambda step, total: None)
    except Exception as error:  # whatever one request runs into, the others go on
        expected = isinstance(error, (ValueError, OSError))
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        report_error(f"{path.name}: {message}")
        return {"file": str(path), "error": message}
    for warning in done.warnings:
        note(f"{path.name}: {warning}")
    return {"file": str(path), **done.record()}
