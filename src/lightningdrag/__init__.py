"""LightningDrag: drag a part of a photo to where it should be, and have it look real.

from lightningdrag import DragEditor

editor = DragEditor.from_pretrained("builtin")
result = editor.edit("photo.jpg", [((210, 140), (260, 120))], seed=0)
result.save("dragged.png")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightningdrag.drag import Drag, RequestError
    from lightningdrag.editor import DragEditor
    from lightningdrag.models.protocol import EditCancelled
    from lightningdrag.photo import PhotoError
    from lightningdrag.pipeline import LightningDragPipeline
    from lightningdrag.request import EditRequest
    from lightningdrag.session import EditResult, EditSession

__version__ = "0.1.0"

# Imported when first used, so that importing the package stays quick and needs no torch.
_HOMES = {
    "Drag": "drag",
    "DragEditor": "editor",
    "EditCancelled": "models.protocol",
    "EditRequest": "request",
    "EditResult": "session",
    "EditSession": "session",
    "LightningDragPipeline": "pipeline",
    "PhotoError": "photo",
    "RequestError": "drag",
}

__all__ = [
    "Drag",
    "DragEditor",
    "EditCancelled",
    "EditRequest",
    "EditResult",
    "EditSession",
    "LightningDragPipeline",
    "PhotoError",
    "RequestError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
