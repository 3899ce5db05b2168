"""Pages on which somebody can judge blind which of two results looks better: one drag each from the middle of
photos, and no mask; source, A and B. Photos whose answers hardly differ are left out. What A and B are stands
in key.json, not to be opened before.

    python benchmarks/blind_pages.py --photos photos --out pages

compares what is as it ships with what the motion alone gives, nothing cut out. To compare two versions, write
the results of one, and then, in a checkout of the other, the pages, with the same seed:

    python benchmarks/blind_pages.py --photos photos --write before
    python benchmarks/blind_pages.py --photos photos --against before --out pages

--second compares the first candidate with the second one.

When they are judged, --count prints who won; verdicts.json holds {"001": {"better": "A" or "B" or "tie",
"A": "good" or "fair" or "bad", "B": the same}, ...}:

    python benchmarks/blind_pages.py --count verdicts.json --out pages
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from builtin_ablation import changed
from lightningdrag import Drag, DragEditor
from lightningdrag.draw import draw_drags

LENGTH = 0.06, 0.12
"""Of a drag, in short sides of the photo."""
LEAST = 1.0
"""Grey levels by which two results have to differ in their masks, on average."""
GRADES = "good", "fair", "bad"
WIDTH, HEIGHT = 620, 700
"""Of a picture on a page, at most."""

Result = tuple[Image.Image, np.ndarray]
"""A picture and where it was changed."""


def drag_from_middle(photo: Image.Image, draw: random.Random) -> Drag:
    """One in any direction."""
    angle, length = draw.uniform(0, 2 * math.pi), draw.uniform(*LENGTH) * min(photo.size)
    x, y = photo.width / 2, photo.height / 2
    return Drag((x, y), (x + length * math.cos(angle), y + length * math.sin(angle)))


def drags(folder: Path, seed: int) -> Iterator[tuple[Path, Image.Image, Drag]]:
    """A drag for each photo, the same ones from the same seed."""
    draw = random.Random(seed)
    for path in sorted(x for x in folder.iterdir() if x.suffix.lower() in (".jpg", ".jpeg", ".png")):
        photo = Image.open(path).convert("RGB")
        yield path, photo, drag_from_middle(photo, draw)


def edit(editor: DragEditor, photo: Image.Image, drag: Drag) -> Result:
    result = editor.edit(photo, [drag], seed=0)
    return result.image.convert("RGB"), result.mask


def second(editor: DragEditor, photo: Image.Image, drag: Drag) -> Result:
    """The other candidate of two."""
    result = editor.edit(photo, [drag], seed=0, num_images=2)
    return result.images[1].convert("RGB"), result.mask


def by_motion_alone(editor: DragEditor, photo: Image.Image, drag: Drag) -> Result:
    from lightningdrag.models.builtin import things  # older versions, with --write, have none

    with changed((things,), {"LEAST_AREA": 1.0}):  # no thing is as large as the window
        return edit(editor, photo, drag)


def write(result: Result, path: Path) -> None:
    image, mask = result
    image.putalpha(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)))
    image.save(path)


def read(path: Path) -> Result:
    image = Image.open(path)
    return image.convert("RGB"), np.asarray(image.getchannel("A")) > 0


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


def count(verdicts: Path, out: Path) -> None:
    """Print who won, and the grades."""
    key = json.loads((out / "key.json").read_text())
    better: Counter[str] = Counter()
    grades: dict[str, Counter[str]] = {"this": Counter(), "the other": Counter(), "the better one": Counter()}
    for name, verdict in json.loads(verdicts.read_text()).items():
        this = key[name]["this"]
        who = {this: "this", "tie": "alike"}
        better[who.get(verdict["better"], "the other")] += 1
        for side in "AB":
            grades[who.get(side, "the other")][verdict[side]] += 1
        grades["the better one"][min((verdict[side] for side in "AB"), key=GRADES.index)] += 1
    print(f"better: {dict(better)}; grades: { ({who: dict(each) for who, each in grades.items()}) }")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photos")
    parser.add_argument("--out", type=Path, help="folder of the pages")
    parser.add_argument("--write", type=Path, help="folder to write the results to, instead of pages")
    parser.add_argument("--against", type=Path, help="folder that another version's --write has written")
    parser.add_argument("--second", action="store_true", help="compare the first candidate with the second")
    parser.add_argument("--count", type=Path, help="verdicts to count")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not (arguments.photos or arguments.count) or not (arguments.out or arguments.write):
        parser.error("--photos and --out or --write, or --count and --out")
    if arguments.count:
        count(arguments.count, arguments.out)
        return
    editor, sides = DragEditor.from_pretrained("builtin"), random.Random(arguments.seed)
    (arguments.write or arguments.out).mkdir(parents=True, exist_ok=True)
    key: dict[str, dict[str, str]] = {}
    for path, photo, drag in drags(arguments.photos, arguments.seed):
        this = edit(editor, photo, drag)
        if arguments.write:
            write(this, arguments.write / f"{path.name}.png")
            continue
        if arguments.against:
            other = read(arguments.against / f"{path.name}.png")
        else:
            other = (second if arguments.second else by_motion_alone)(editor, photo, drag)
        mask = this[1] | other[1]
        if np.abs(np.asarray(this[0], int) - np.asarray(other[0], int))[mask].mean() < LEAST:
            continue
        rows, columns = np.nonzero(mask)
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        pair = [this[0], other[0]]
        first = sides.choice("AB")
        pictures = [draw_drags(photo, [drag], None).convert("RGB"), *(pair if first == "A" else pair[::-1])]
        name = f"{len(key) + 1:03d}"
        page([x.crop(box) for x in pictures]).save(arguments.out / f"{name}.png")
        key[name] = {"photo": path.name, "this": first}
    if key:
        (arguments.out / "key.json").write_text(json.dumps(key, indent=1))
        print(f"{len(key)} photos differ; pages and key.json in {arguments.out}")


if __name__ == "__main__":
    main()
