"""ComfyUI finds the node, and the script that draws in it, here."""

from .node import LightningDragNode

NODE_CLASS_MAPPINGS = {"LightningDrag": LightningDragNode}
NODE_DISPLAY_NAME_MAPPINGS = {"LightningDrag": "LightningDrag"}
WEB_DIRECTORY = "./web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
