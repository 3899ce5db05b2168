"""Pages on which somebody can judge blind whether things that are cut out look better than what the motion
alone gives: one drag each from the middle of photos, and no mask; source, A and B. Photos of which the answer
is the same either way are left out. What A and B are stands in key.json, not to be opened before.

    python benchmarks/blind_pages.py --photos photos --out pages
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from builtin_ablation import changed
from lightningdrag import Drag, DragEditor
from lightningdrag.draw import draw_drags
from lightningdrag.models.builtin import things

LENGTH = 0.06, 0.12
"""Of a drag, in short sides of the photo."""
WIDTH, HEIGHT = 620, 700
"""Of a picture on a page, at most."""


def drag_from_middle(photo: Image.Image, draw: random.Random) -> Drag:
    """One in any direction."""
    angle, length = draw.uniform(0, 2 * math.pi), draw.uniform(*LENGTH) * min(photo.size)
    x, y = photo.width / 2, photo.height / 2
    return Drag((x, y), (x + length * math.cos(angle), y + length * math.sin(angle)))


def page(pictures: list[Image.Image]) -> Image.Image:
    """Source, A and B beside each other, with their titles."""
    scale = min(WIDTH / pictures[0].width, HEIGHT / pictures[0].height)
    size = round(pictures[0].width * scale), round(pictures[0].height * scale)
    sheet = Image.new("RGB", (3 * size[0] + 20, size[1] + 24), "white")
    for index, (title, picture) in enumerate(zip(("source and drag", "A", "B"), pictures, strict=True)):
        left = index * (size[0] + 10)
        sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, 24))
        ImageDraw.Draw(sheet).text((left + 4, 6), title, fill="black")
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    editor, draw = DragEditor.from_pretrained("builtin"), random.Random(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    paths = sorted(x for x in arguments.photos.iterdir() if x.suffix.lower() in (".jpg", ".jpeg", ".png"))
    key: dict[str, dict[str, str]] = {}
    for path in paths:
        photo = Image.open(path).convert("RGB")
        drag = drag_from_middle(photo, draw)
        cut = editor.edit(photo, [drag], seed=0)
        with changed((things,), {"LEAST_AREA": 1.0}):
            plain = editor.edit(photo, [drag], seed=0)
        if np.array_equal(np.asarray(cut.image), np.asarray(plain.image)):
            continue
        cut_first = draw.random() < 0.5
        rows, columns = np.nonzero(cut.mask | plain.mask)
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        results = [cut.image, plain.image] if cut_first else [plain.image, cut.image]
        pictures = [draw_drags(photo, [drag], None), *results]
        name = f"{len(key) + 1:03d}"
        page([x.convert("RGB").crop(box) for x in pictures]).save(arguments.out / f"{name}.png")
        key[name] = {"photo": path.name, "cut out": "A" if cut_first else "B"}
    (arguments.out / "key.json").write_text(json.dumps(key, indent=1))
    print(f"{len(key)} of {len(paths)} photos differ; pages and key.json in {arguments.out}")


if __name__ == "__main__":
    main()
