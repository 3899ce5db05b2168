"""``lightningdrag ui``: the editor in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from lightningdrag.commands.edit import Dtype, Options
from lightningdrag.commands.serve import Devices, Host, Insecure, Models, Port, Token, checked_settings


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
    option: Options = None,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Open the editor in the browser.

    Nothing leaves this machine.
    """
    from lightningdrag.photo import MAX_BYTES, MAX_PIXELS
    from lightningdrag.service.server import serve

    limits = {"max_bytes": MAX_BYTES, "max_pixels": MAX_PIXELS}  # what edit takes
    settings = checked_settings(host, model, device, dtype, option, token, insecure, **limits)
    serve(settings, host, port, open_browser=not no_browser)
