"""One side of a comparison: edits when told to, and says how long it took.

Run as a file by ``compare.py``, with the source tree that is to be measured first on ``PYTHONPATH``; it
uses the public interface alone, so that it runs with other commits' code, too.

    python worker.py '{"model": "builtin", ...}' PHOTO REQUEST
    > ready
    < (a line)
    > {"seconds": 0.08, "again": 0.07}
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    settings: dict[str, Any] = json.loads(sys.argv[1])
    photo, request_file = Path(sys.argv[2]).read_bytes(), Path(sys.argv[3])
    import torch

    from lightningdrag import DragEditor, EditRequest

    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    place = {"device": settings["device"], "dtype": settings["dtype"]}
    if settings["options"]:  # which earlier commits do not know
        place["options"] = settings["options"].split(",")
    if settings["model"] == "sd15-random":
        from lightningdrag.bench.models import model_to_measure

        editor = DragEditor(model_to_measure(settings["model"], **place))
    else:
        editor = DragEditor.from_pretrained(settings["model"], **place)
    request = EditRequest.load(request_file)
    editor.run(photo, request)
    print("ready", flush=True)
    for _ in sys.stdin:
        times = [time.perf_counter()]
        session = editor.open(photo)
        for _ in range(2):
            session.run(request)
            times.append(time.perf_counter())
        print(json.dumps({"seconds": times[1] - times[0], "again": times[2] - times[1]}), flush=True)


if __name__ == "__main__":
    main()
