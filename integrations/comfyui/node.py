"""A ComfyUI node: drag parts of an image, by arrows drawn inside the node.

ComfyUI's conventions: an IMAGE is ``(B, H, W, C)`` float in [0, 1], a MASK ``(B, H, W)`` float in [0, 1].
"""

from __future__ import annotations

import json
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightningdrag import DragEditor


class LightningDragNode:
    """Gives every image of a batch the same drags; without drags the images pass unchanged."""

    CATEGORY = "image/transform"
    FUNCTION = "drag"
    RETURN_TYPES = ("IMAGE", "MASK")
    OUTPUT_NODE = True  # runs even if nothing takes its output, so that there is an image to draw on

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        seed = {"default": 0, "min": 0, "max": 2**63 - 1, "control_after_generate": True}
        return {
            "required": {
                "image": ("IMAGE",),
                "drags": (
                    "STRING",
                    {"default": "[]", "tooltip": "[[[x, y], [x, y]], ...] in pixels: handle, target"},
                ),
                "model": ("STRING", {"default": "builtin", "tooltip": "a name, a folder, or a hub id"}),
                "seed": ("INT", seed),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "what may change; without it, what follows the drags"})
            },
        }

    def drag(
        self, image: Tensor, drags: str, model: str, seed: int, mask: Tensor | None = None
    ) -> dict[str, Any]:
        """Edit a batch.

        Args:
            image: ``(B, H, W, 3)`` float in [0, 1].
            drags: JSON, pairs of points in pixels.
            mask: ``(1 or B, H, W)`` float in [0, 1] of the image's size or aspect; half and more may change.

        Returns:
            ComfyUI's ``{"ui", "result"}``: the images ``(B, H, W, 3)`` and the masks used ``(B, H, W)``.

        Raises:
            ValueError: a drag, the mask or the model is wrong; the message names what.
        """
        pairs = json.loads(drags)
        if not pairs:
            return {"ui": _shown(image[0]), "result": (image, torch.zeros(image.shape[:3]))}
        images, masks = [], []
        for index, picture in enumerate(image):
            given = None if mask is None else mask[min(index, len(mask) - 1)].cpu().numpy()
            result = _editor(model).edit(_pixels(picture), pairs, given, seed=seed)
            images.append(torch.from_numpy(np.array(result.image.convert("RGB"))).float() / 255)
            masks.append(torch.from_numpy(result.mask).float())
        return {"ui": _shown(image[0]), "result": (torch.stack(images), torch.stack(masks))}


@lru_cache(maxsize=1)
def _editor(model: str) -> DragEditor:
    return DragEditor.from_pretrained(model)


def _pixels(picture: Tensor) -> np.ndarray:
    return (picture[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _shown(picture: Tensor) -> dict[str, Any]:
    """The source for the node to draw on, as a temporary file that ComfyUI serves."""
    try:
        from folder_paths import get_temp_directory
    except ImportError:  # not inside ComfyUI
        return {}
    from PIL import Image

    folder = Path(get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    name = f"lightningdrag-{uuid.uuid4().hex}.png"
    Image.fromarray(_pixels(picture)).save(folder / name)
    return {"drag_source": [{"filename": name, "subfolder": "", "type": "temp"}]}
