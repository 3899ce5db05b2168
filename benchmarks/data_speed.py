"""How fast videos become pairs, stage by stage on one core; and memory on a video of two hours.

    python benchmarks/data_speed.py --videos VIDEOS --clips 20
    python benchmarks/data_speed.py --long --minutes 120

Times are those that the processor worked (decoding may use several threads), in one run, so that what else
the machine does matters little. A run finds the flow that it needs; what it leaves out is found afterwards,
to compare the time of all stages with that of decoding and flow between all frames alone. The long video is
made with PyAV on the spot, 96x64 at 12 frames a second; a pair is wanted from every minute of it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from lightningdrag.data.clips import even_order, find_candidates, make_pair
from lightningdrag.data.pairs import Rejected
from lightningdrag.data.recipe import DEFAULT, Amounts, DataRecipe
from lightningdrag.data.samples import run_task
from lightningdrag.data.shards import encode_sample
from lightningdrag.data.shots import split_shots
from lightningdrag.data.tasks import find_videos, video_tasks
from lightningdrag.data.tracks import ClipFlow, clip_flow
from lightningdrag.data.video import UnreadableVideo, read_video, without_bars

PAIRS = 10  # from each clip


class Clock:
    """Seconds of work by stage.

    Attributes:
        stage: the one that is under way.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.last = time.process_time()
        self.stage = ""

    def enter(self, stage: str) -> str:
        """Begin a stage; the one that ends with it."""
        now = time.process_time()
        self.seconds[self.stage] += now - self.last
        self.last, before, self.stage = now, self.stage, stage
        return before


@dataclass
class Timed(Sequence[np.ndarray]):
    """Flow that is found when it is asked for, on the clock."""

    steps: Sequence[np.ndarray] | np.ndarray
    clock: Clock

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, k: int) -> np.ndarray:  # type: ignore[override]  # no slices
        before = self.clock.enter("flow")
        step = self.steps[k]
        self.clock.enter(before)
        return step


def measure_stages(videos: list[str], count: int) -> None:
    """Print the time of each stage for clips drawn at random."""
    clock, frames, pairs, clips = Clock(), 0, 0, 0
    for place in np.random.default_rng(0).permutation(videos):
        rng, dropped = np.random.default_rng(0), Counter[str]()
        clock.enter("decode, scale")
        try:
            piece = next(read_video(str(place)))
        except UnreadableVideo:
            continue
        clock.enter("shots, bars")
        shots = [piece[start:stop] for start, stop in split_shots(piece) if stop - start > 1]
        for shot in (without_bars(shot) for shot in shots):
            clock.enter("camera, gaps")
            whole = clip_flow(shot)
            flow = ClipFlow(Timed(whole.forward, clock), Timed(whole.backward, clock))
            candidates = find_candidates(shot, flow, rng, dropped)
            found = 0
            for tried, candidate in enumerate(even_order(candidates, rng, DEFAULT.gaps)[: 3 * PAIRS]):
                if found == PAIRS or tried >= DEFAULT.gaps.patience * (found + 1):
                    break
                clock.enter("pairs")
                try:
                    drawn = make_pair(shot, flow, candidate, rng)
                except Rejected:
                    continue
                clock.enter("encode")
                encode_sample(drawn.pair, drawn.mask, {})
                found += 1
            pairs += found
            clock.enter("the rest of the flow")  # what a run leaves out; for comparison
            for steps in (whole.forward, whole.backward):
                for k in range(len(steps)):
                    steps[k]
            clock.enter("shots, bars")
        clock.enter("")
        frames += len(piece)
        clips += 1
        if clips == count:
            break
    del clock.seconds[""]
    left_out = clock.seconds.pop("the rest of the flow")
    total = sum(clock.seconds.values())
    print(f"{clips} clips, {frames} frames, {pairs} pairs, {total:.0f} s: {pairs / total:.2f} pairs/s")
    print("| stage | frames/s | ms a frame | share |\n|---|---|---|---|")
    for stage, seconds in clock.seconds.items():
        print(f"| {stage} | {frames / seconds:.1f} | {1000 * seconds / frames:.1f} | {seconds / total:.0%} |")
    print(f"| all | {frames / total:.1f} | {1000 * total / frames:.1f} | |")
    alone = clock.seconds["decode, scale"] + clock.seconds["flow"] + left_out
    print(
        f"decoding and all flow alone: {1000 * alone / frames:.1f} ms a frame; over that: {total / alone:.2f}"
    )


def write_long(path: Path, minutes: int) -> None:
    """A square that goes round before a textured ground."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 255, (16, 24, 3), np.uint8), (96, 64))
    thing = cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (20, 20))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for k in range(minutes * 60 * 12):
            image = ground.copy()
            x, y = int(38 + 34 * np.cos(k / 9)), int(22 + 20 * np.sin(k / 9))
            image[y : y + 20, x : x + 20] = thing
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def measure_memory(minutes: int) -> None:
    """Print the peak memory of preparing one long video, a pair wanted from every minute."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        write_long(path, minutes)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        recipe = DataRecipe(amounts=Amounts(per_group=minutes))
        (task,) = video_tasks(find_videos([str(path)])[0], {}, set(), recipe.amounts)
        began = time.process_time()
        outcome = run_task(task, recipe)
        seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{minutes} minutes: {outcome.frames} frames, {len(outcome.samples)} pairs in {seconds:.0f} s")
    print(f"peak memory {peak:.0f} MB; {before:.0f} MB before preparing began")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--minutes", type=int, default=120)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.videos:
        measure_stages(list(find_videos([str(arguments.videos)])[0].values()), arguments.clips)
    if arguments.long:
        measure_memory(arguments.minutes)


if __name__ == "__main__":
    main()
