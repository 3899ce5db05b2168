"""``lightningdrag edit``: drag parts of one photo."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lightningdrag.commands.console import note, print_json, progress
from lightningdrag.drag import DragError, FormatError
from lightningdrag.photo import MAX_BYTES
from lightningdrag.request import EditRequest

Model = Annotated[str, typer.Option("--model", help="builtin, warp, sd15, a folder, or a hub id OWNER/NAME.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16, float16.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", help="How SD 1.5 runs: low-memory, resident, compile, deep-cache or tiny-decoder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print what was done as JSON on stdout.")]
MaxPixels = Annotated[int | None, typer.Option(help="Refuse photos of more pixels.  [default: 80000000]")]
MaxBytes = Annotated[int | None, typer.Option(help="Refuse files of more bytes.  [default: 268435456]")]


def register(app: typer.Typer) -> None:
    """Add the ``edit`` verb."""
    app.command("edit", no_args_is_help=True)(edit)


def edit(
    photo: Annotated[
        str | None,
        typer.Argument(
            metavar="PHOTO", help="The photo; - reads stdin. May be left out if the request names it."
        ),
    ] = None,
    drag: Annotated[
        list[str] | None,
        typer.Option(
            "--drag", "-d", metavar="X,Y:X,Y", help="Handle:target in pixels; equal ones pin. Repeatable."
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="White where the photo may change. Without it, what follows the drags."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="The result; - is stdout.  [default: PHOTO.dragged.EXT]"),
    ] = None,
    request: Annotated[
        Path | None, typer.Option(help="A saved request (JSON); other options override it.")
    ] = None,
    save_request: Annotated[Path | None, typer.Option(help="Save the request (JSON), to repeat it.")] = None,
    model: Model = "builtin",
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same result.  [default: random]")
    ] = None,
    num_images: Annotated[
        int | None, typer.Option("--num-images", "-n", help="Candidates; written as OUT-1, OUT-2, ...")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.  [default: the model's]")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="How strongly to follow the points; <= 1 is fastest.  [default: the model's]"),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="How guidance falls: inverse_square, none, linear, square, cubic, first_half."),
    ] = None,
    max_step: Annotated[float | None, typer.Option(help="Split drags longer than this many pixels.")] = None,
    augment: Annotated[int | None, typer.Option(help="Auxiliary pairs around each handle.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    option: Options = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write the analytic warp, in milliseconds.")
    ] = False,
    max_pixels: MaxPixels = None,
    max_bytes: MaxBytes = None,
    as_json: Json = False,
) -> None:
    """Drag parts of a photo.

    The photo comes back at its own size, untouched outside the mask.

    Example: lightningdrag edit photo.jpg --drag 210,140:260,120 -o out.png
    """
    from lightningdrag.checkpoints.catalogue import check_name, check_options
    from lightningdrag.checkpoints.hub import check_dtype
    from lightningdrag.commands.job import STREAM, check_target, inputs_of, make_job, run_job
    from lightningdrag.masks import read_mask

    for name, path in (("--mask", mask), ("--request", request), ("--save-request", save_request)):
        if path is not None and str(path) == STREAM:
            raise FormatError(
                f"{name} {STREAM}: only the photo comes from stdin and goes to stdout; name a file"
            )
    limits = {"max_pixels": max_pixels, "max_bytes": max_bytes}
    bounds = {name: limit for name, limit in limits.items() if limit is not None}
    given = {
        "drags": drag,
        "mask": None if mask is None else read_mask(mask, **bounds),
        "seed": seed,
        "num_images": num_images,
        "steps": steps,
        "guidance": guidance,
        "guidance_schedule": schedule,
        "max_step": max_step,
        "augment": augment,
    }
    given = {name: value for name, value in given.items() if value is not None}
    asked = build_request(request, given, **bounds)
    photo_name = _photo_name(photo, request, asked.image)
    read = {"the photo": photo_name, "the mask": mask, "the request": request}
    if request is not None:
        _, saved_mask = EditRequest.load_outline(request, max_bytes=max_bytes or MAX_BYTES)
        read["the mask of the request"] = saved_mask
    inputs = inputs_of(read)
    job = make_job(photo_name, asked, output, inputs, **bounds)
    if as_json and STREAM in job.outputs:
        raise typer.BadParameter("the image goes to stdout already; name a file with -o", param_hint="--json")
    if save_request:
        check_target(save_request, inputs)
        if save_request.resolve() in (Path(name).resolve() for name in job.outputs):
            raise FormatError(f"the result and the request would both be {save_request}; name two files")
    model = "warp" if preview else model  # which is what a preview shows
    check_name(model)
    check_dtype(dtype)
    check_options(option or ())

    from lightningdrag.editor import DragEditor

    editor = DragEditor.from_pretrained(model, device=device, dtype=dtype, options=option or ())
    with progress("Dragging") as callback:
        done = run_job(job, editor, model, callback)
    if save_request:
        _save_request(done.request, save_request)
    if as_json:
        print_json(done.record())
        return
    for warning in done.warnings:
        note(warning)
    if STREAM not in job.outputs:
        typer.echo(f"{', '.join(done.job.outputs)}  ({done.seconds:.1f} s, seed {done.request.seed})")


def build_request(saved: Path | None, given: dict[str, Any], **bounds: int) -> EditRequest:
    """A saved request with what the command line gives put over it, or one from the command line alone.

    Args:
        bounds: ``max_bytes`` and ``max_pixels`` of what is saved.

    Raises:
        RequestError: what is wrong with it.
    """
    if saved is None and "drags" not in given:
        raise DragError("no drags; give at least one, such as --drag 210,140:260,120, or a --request")
    if saved is None:
        return EditRequest(**given)
    return replace(EditRequest.load(saved, **bounds), **given)


def _photo_name(photo: str | None, request: Path | None, image: str | None) -> str:
    """The photo as named, or as the request names it: relative to the request's folder."""
    if photo is not None:
        return photo
    if request is None or image is None:
        raise typer.BadParameter("name the photo, or a request that names one", param_hint="PHOTO")
    return str(request.parent / image)


def _save_request(request: EditRequest, path: Path) -> None:
    """Save beside the name of the photo, seen from the request's folder."""
    image = request.image
    if image is not None:  # folders may be links, from which .. leads elsewhere than it looks
        photo = Path(image)
        image = os.path.relpath(photo.parent.resolve() / photo.name, path.parent.resolve())
    replace(request, image=image).save(path)
