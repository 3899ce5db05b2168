"""A small Gradio app: two clicks make a drag, a button edits the photo."""

from __future__ import annotations

from functools import lru_cache

import gradio as gr
import numpy as np

from lightningdrag import DragEditor
from lightningdrag.drag import Drag, Point
from lightningdrag.draw import draw_drags

Points = list[Point]


@lru_cache(maxsize=1)
def editor() -> DragEditor:
    return DragEditor.from_pretrained("builtin")


def drags_of(points: Points) -> list[Drag]:
    """Handle and target by turns; a last handle without target is shown as a pin."""
    return [
        Drag(handle, target) for handle, target in zip(points[::2], points[1::2] + points[-1:], strict=False)
    ]


def drawn(photo: np.ndarray | None, points: Points) -> np.ndarray | None:
    """The photo with the arrows so far."""
    from PIL import Image

    return None if photo is None else np.array(draw_drags(Image.fromarray(photo), drags_of(points)))


def clicked(
    photo: np.ndarray | None, points: Points, event: gr.SelectData
) -> tuple[np.ndarray | None, Points]:
    points = [*points, (float(event.index[0]), float(event.index[1]))]
    return drawn(photo, points), points


def run(photo: np.ndarray | None, points: Points, seed: float) -> np.ndarray:
    """The edit; what is wrong is shown in plain words."""
    if photo is None or len(points) < 2:
        raise gr.Error("Open a photo, click what should move, then where to.")
    pairs = drags_of(points[: len(points) // 2 * 2])
    try:
        return np.array(editor().edit(photo, pairs, seed=int(seed)).image)
    except ValueError as error:
        raise gr.Error(str(error)) from None


def build() -> gr.Blocks:
    with gr.Blocks(title="LightningDrag", analytics_enabled=False) as app:
        photo, points = gr.State(None), gr.State([])
        gr.Markdown("# LightningDrag\nOpen a photo, click what should move, then where to.")
        with gr.Row():
            board = gr.Image(label="Photo", type="numpy", image_mode="RGB", sources=["upload", "clipboard"])
            result = gr.Image(label="Result", type="numpy", format="png", interactive=False)
        with gr.Row():
            again = gr.Button("Start over")
            seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            go = gr.Button("Run", variant="primary")
        board.upload(lambda opened: (opened, []), board, [photo, points])
        board.select(clicked, [photo, points], [board, points])
        board.clear(lambda: (None, []), None, [photo, points])
        again.click(lambda opened: (opened, []), photo, [board, points])
        go.click(run, [photo, points, seed], result)
    return app


if __name__ == "__main__":
    build().launch()
