"""Edit three example photos with the built-in model and show what was done.

python examples/demo.py              before / drags / after of three photos, into out/demo/
python examples/demo.py --readme     the picture at the top of the README, too
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import Progress

from lightningdrag import DragEditor, EditRequest
from lightningdrag.draw import draw_drags, side_by_side

EXAMPLES = Path(__file__).resolve().parent
OUT = Path("out/demo")
PHOTOS = ("astronaut", "coffee", "flower")
TITLES = ("before", "drags", "after")
README_WIDTH, GAP = 1200, 8  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", action="store_true", help="also write examples/readme.jpg")
    parser.add_argument("--model", default="builtin", help="a model's name, folder or hub id")
    arguments = parser.parse_args()

    console = Console(soft_wrap=True)
    OUT.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    editor = DragEditor.from_pretrained(arguments.model)
    console.print(f"Model {arguments.model!r} loaded in {time.perf_counter() - started:.1f} s")
    rows = [demonstrate(name, editor, console) for name in PHOTOS]
    console.print(f"The results are in [bold]{OUT}[/]: *.jpg as edited, *-sheet.png before, drags and after")
    if arguments.readme:
        path = EXAMPLES / "readme.jpg"
        stacked(rows, README_WIDTH).save(path, quality=88)
        console.print(f"The README's picture is {path}")


def demonstrate(name: str, editor: DragEditor, console: Console) -> list[Image.Image]:
    """Edit one photo, write its result and its sheet, return the sheet's pictures."""
    request = EditRequest.load(EXAMPLES / f"{name}.json")
    photo = Image.open(EXAMPLES / f"{name}.jpg")
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Dragging {name}", total=None)
        result = editor.run(
            photo, request, callback=lambda step, total: bar.update(task, completed=step, total=total)
        )
    result.save(OUT / f"{name}.jpg")
    pictures = [photo, draw_drags(photo, request.drags, result.mask), result.image]
    side_by_side(pictures, TITLES).save(OUT / f"{name}-sheet.png")
    console.print(f"{name}: {photo.width}x{photo.height} in {result.seconds:.1f} s")
    return pictures


def stacked(rows: list[list[Image.Image]], width: int) -> Image.Image:
    """Rows of pictures under each other, all pictures of one width, the first row with titles."""
    across = (width - GAP * (len(TITLES) - 1)) // len(TITLES)
    sheets = []
    for titles, row in zip([TITLES, *[()] * len(rows)], rows, strict=False):
        height = round(row[0].height * across / row[0].width)
        pictures = [picture.resize((across, height), Image.Resampling.LANCZOS) for picture in row]
        sheets.append(side_by_side(pictures, titles, GAP))
    sheet = Image.new("RGB", (width, sum(each.height + GAP for each in sheets) - GAP), "white")
    top = 0
    for each in sheets:
        sheet.paste(each, (0, top))
        top += each.height + GAP
    return sheet


if __name__ == "__main__":
    main()
