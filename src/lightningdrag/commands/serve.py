"""``lightningdrag serve``: the editor and its API for programs and other people."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightningdrag.commands.edit import Dtype, Options

if TYPE_CHECKING:
    from lightningdrag.service.settings import Settings


class Engine(str, Enum):
    local = "local"
    ray = "ray"


Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is all of this machine's.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="builtin, sd15, a folder, a hub id. Repeatable; the first is the default."),
]
Devices = Annotated[
    list[str] | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1. Repeatable: a worker on each.")
]
Token = Annotated[
    str | None, typer.Option(envvar="LIGHTNINGDRAG_TOKEN", help="Callers must give it as a bearer token.")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Let others in without a token.")]


def register(app: typer.Typer) -> None:
    """Add the ``serve`` verb."""
    app.command("serve")(serve)


def serve(
    host: Host = "127.0.0.1",
    port: Port = 7860,
    model: Models = None,
    device: Devices = None,
    dtype: Dtype = "auto",
    option: Options = None,
    token: Token = None,
    insecure: Insecure = False,
    queue: Annotated[int, typer.Option(min=1, help="Jobs that may wait; more are refused.")] = 32,
    batch: Annotated[
        int, typer.Option(min=1, help="Edits in one pass of the model; 1 does them singly.")
    ] = 4,
    ttl: Annotated[
        float, typer.Option(min=1, help="Seconds after which unused sessions are forgotten.")
    ] = 3600,
    store_bytes: Annotated[int, typer.Option(min=2**20, help="Of all sessions together.")] = 4 * 2**30,
    max_bytes: Annotated[int, typer.Option(min=2**10, help="Of a request, photo included.")] = 64 * 2**20,
    max_pixels: Annotated[int, typer.Option(min=256, help="Of a photo.")] = 80_000_000,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second from one address.")] = 20,
    engine: Annotated[
        Engine, typer.Option(help="Workers as processes here, or as replicas on Ray.")
    ] = Engine.local,
    replicas: Annotated[int, typer.Option(min=1, help="Ray: the most there may be.")] = 2,
    gpus: Annotated[float, typer.Option(min=0, help="Ray: of each replica.")] = 0,
) -> None:
    """Serve the editor and its API.

    Without --host only this machine can reach it. Everyone else needs the token, of at least 8
    characters; in the environment it stays out of the list of processes.

    Example: LIGHTNINGDRAG_TOKEN=... lightningdrag serve --host 0.0.0.0 --device cuda:0 --device cuda:1
    """
    settings = checked_settings(
        host,
        model,
        device,
        dtype,
        option,
        token,
        insecure,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        queue=queue,
        batch=batch,
        ttl=ttl,
        store_bytes=store_bytes,
        rate=rate,
        burst=max(1, round(10 * rate)),
    )
    if engine is Engine.ray:
        from lightningdrag.service.ray_engine import serve_on_ray

        serve_on_ray(settings, host, port, replicas=replicas, gpus=gpus)
    else:
        from lightningdrag.service.server import serve as serve_here

        serve_here(settings, host, port)


def checked_settings(
    host: str,
    model: list[str] | None,
    device: list[str] | None,
    dtype: str,
    option: list[str] | None,
    token: str | None,
    insecure: bool,
    **limits: Any,
) -> Settings:
    """What ``ui`` and ``serve`` are both told, checked; ``limits`` are further fields of the settings.

    Raises:
        ValueError: an unknown model, dtype or option, or a server open to others without a token.
    """
    from lightningdrag.checkpoints.catalogue import ModelError, check_name, check_options
    from lightningdrag.checkpoints.hub import check_dtype
    from lightningdrag.service.server import check_access
    from lightningdrag.service.settings import LOOPBACK, Settings, takes_options

    check_access(host, token, insecure)
    models = tuple(model or ("builtin",))
    for name in models:
        check_name(name)
    check_dtype(dtype)
    check_options(option or ())
    if option and not any(map(takes_options, models)):
        raise ModelError(f"{', '.join(models)} has no option {', '.join(option)}; options are for SD 1.5")
    return Settings(
        models=models,
        devices=tuple(device or ("auto",)),
        dtype=dtype,
        options=tuple(option or ()),
        token=token,
        any_host=host not in LOOPBACK,
        **limits,
    )
