"""``lightningdrag batch``: every request of a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightningdrag.commands.console import describe, note, print_json, report_error
from lightningdrag.commands.edit import Device, Dtype, Json, Model, Options
from lightningdrag.drag import FormatError, RequestError

if TYPE_CHECKING:
    from lightningdrag.commands.job import Inputs
    from lightningdrag.editor import DragEditor
    from lightningdrag.request import EditRequest


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
    written. A result that would overwrite a photo, mask or request of the
    folder, or another's result, is refused. Exit code 1 if any failed.
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
    plan = _plan(requests, out)
    records = [_run(path, out, plan, editor, model) for path in watched]
    failed = sum("error" in record for record in records)
    if as_json:
        print_json({"done": len(records) - failed, "failed": failed, "results": records})
    else:
        typer.echo(f"{len(records) - failed} done, {failed} failed; results in {out}")
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Plan:
    """What all requests of a folder read and write, known before the first of them is run.

    Attributes:
        inputs: the requests, their photos and their masks.
        writers: of each result, the requests that are to write it.
    """

    inputs: Inputs
    writers: dict[str, list[str]]


def _plan(requests: Sequence[Path], out: Path) -> Plan:
    from lightningdrag.commands.job import inputs_of, numbered
    from lightningdrag.request import EditRequest

    inputs: dict[str, str | Path | None] = {path.name: path for path in requests}
    writers: dict[str, list[str]] = {}
    for path in requests:
        with suppress(RequestError):  # said when it is the request's turn
            request, mask = EditRequest.load_outline(path)
            image = _image_of(path, request)
            inputs |= {f"the photo of {path.name}": image, f"the mask of {path.name}": mask}
            for name in numbered(_output_of(path, image, out), request.num_images):
                writers.setdefault(name, []).append(path.name)
    return Plan(inputs_of(inputs), writers)


def _run(path: Path, out: Path, plan: Plan, editor: DragEditor, model: str) -> dict[str, Any]:
    """One request: its record, or its error."""
    from lightningdrag.commands.job import make_job, run_job
    from lightningdrag.request import EditRequest

    try:
        request = EditRequest.load(path)
        image = _image_of(path, request)
        job = make_job(image, request, _output_of(path, image, out), plan.inputs)
        _check_alone(job.outputs, plan)
        done = run_job(job, editor, model, lambda step, total: None)
    except Exception as error:  # whatever one request runs into, the others go on
        expected = isinstance(error, (ValueError, OSError))
        message = describe(error) if expected else f"{type(error).__name__}: {error}"
        message = message.removeprefix(f"{path}: ")  # which both the line and the record say
        report_error(f"{path.name}: {message}")
        return {"file": str(path), "error": message}
    for warning in done.warnings:
        note(f"{path.name}: {warning}")
    return {"file": str(path), **done.record()}


def _image_of(path: Path, request: EditRequest) -> str:
    if request.image is None:
        raise FormatError(f"{path} names no image")
    return str(path.parent / request.image)


def _output_of(path: Path, image: str, out: Path) -> str:
    from lightningdrag.commands.job import writable_ending

    return str(out / f"{path.stem}{writable_ending(image)}")


def _check_alone(outputs: Sequence[str], plan: Plan) -> None:
    """Refuse a result that another request would replace."""
    for name in outputs:
        if len(plan.writers[name]) > 1:
            raise FormatError(f"{name} would be the result of {' and '.join(plan.writers[name])}; rename one")
