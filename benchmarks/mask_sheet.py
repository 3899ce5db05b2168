"""One drag each on the example photos and no mask, to be looked at: by a mask from the drag alone, and by one
of what follows it.

    python benchmarks/mask_sheet.py --out masks.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from deformation_sheet import EXAMPLES
from lightningdrag import Drag, DragEditor
from lightningdrag.draw import draw_drags
from lightningdrag.evaluation.sheets import write_sheet
from lightningdrag.masks import derive_mask

SHEET = (
    ("move the head", "astronaut", Drag((230, 100), (180, 105))),
    ("move the helmet", "astronaut", Drag((430, 380), (380, 390))),
    ("turn the nose", "chelsea", Drag((262, 232), (232, 238))),
    ("lower the brow", "chelsea", Drag((160, 30), (150, 60))),
    ("move the pagoda", "china", Drag((200, 180), (170, 160))),
    ("lower the cup", "coffee", Drag((300, 60), (300, 90))),
    ("move the spoon", "coffee", Drag((365, 290), (410, 290))),
    ("move the flower by a petal", "flower", Drag((250, 330), (230, 360))),
    ("move the flower by its core", "flower", Drag((320, 210), (380, 210))),
    ("move the face", "grace_hopper", Drag((260, 150), (230, 160))),
    ("raise the rocket", "rocket", Drag((320, 130), (320, 90))),
)


def row(title: str, photo: str, drag: Drag, editor: DragEditor) -> tuple[str, list[Image.Image]]:
    """The caption and the pictures of one drag."""
    session = editor.open(EXAMPLES / f"{photo}.jpg")
    source = session.photo.image
    pictures = []
    for mask in (derive_mask([drag], source.width, source.height), None):
        result = session.edit([drag], mask, seed=0)
        pictures += [draw_drags(source, result.drags, result.mask), result.image]
    return f"{title}   the room around the drag, and its result | what follows, and its result", pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a PNG to write")
    parser.add_argument("--model", default="builtin", help="built-in name, folder or hub id")
    arguments = parser.parse_args()
    editor = DragEditor.from_pretrained(arguments.model)
    write_sheet([row(*each, editor) for each in SHEET], arguments.out)
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()
