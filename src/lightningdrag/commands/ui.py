"""``lightningdrag ui``: the editor in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from lightningdrag.commands.edit import Dtype
from lightningdrag.commands.serve import Devices, Host, Insecure, Models, Port, Token


def register(app: typer.Typer) -> None:
    """Add the ``ui`` verb."""
    app.command("ui")(ui)


def ui(
    host: Host = "127.0.0.1",
    port: Port = 7860,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open it; print its address.")
    ] = False,
    model: Models = None,
    device: Devices = None,
    dtype: Dtype = "auto",
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Open the editor in the browser.

    Nothing leaves this machine.
    """
    from lightningdrag.checkpoints.catalogue import check_name
    from lightningdrag.checkpoints.hub import check_dtype
    from lightningdrag.service.server import check_access, serve
    from lightningdrag.service.settings import LOOPBACK, Settings

    check_access(host, token, insecure)
    for name in model or ():
        check_name(name)
    check_dtype(dtype)
    settings = Settings(
        models=tuple(model or ("builtin",)),
        devices=tuple(device or ("auto",)),
        dtype=dtype,
        token=token,
        any_host=host not in LOOPBACK,
    )
    serve(settings, host, port, open_browser=not no_browser)
