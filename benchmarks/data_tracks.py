"""How well motion is found: against exact truth on synthetic scenes, and against itself on real clips.

    python benchmarks/data_tracks.py                                     # the scenes alone
    python benchmarks/data_tracks.py --videos VIDEOS --clips 30          # and there-and-back on clips
    python benchmarks/data_tracks.py --flow raft-small --flow-weights raft_small.pth
    python benchmarks/data_tracks.py --tracker tapir --tracker-weights tapir.pt

A scene is a film of textured things that move, turn, and cover one another before a textured ground. Points
are tracked from the first frame to each of the others. As in TAP-Vid (Doersch et al., 2022), on 256 px:
``<d px`` is the share of visible points within d pixels of the truth, delta-avg its mean over 1, 2, 4, 8 and
16; the Jaccard index of d is true positives over true positives, false positives and false negatives,
where a point is predicted visible if forward and backward motion agree. "For handles" are those visible
points whose own detail shows their motion. "Tracks" are the point tracker's, of up to 256 points of what
moves in each scene.

On real clips a point is followed k frames on and k back; what is told is how far from its start it ends,
for the points that are called visible. That cannot show an error that is the same both ways.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from lightningdrag.data.doubts import distinct_cells, doubtful_cells
from lightningdrag.data.pairs import changed_cells
from lightningdrag.data.shots import split_shots
from lightningdrag.data.tasks import find_videos
from lightningdrag.data.trackers import Trackers, load_trackers
from lightningdrag.data.tracks import (
    PLAIN,
    UNKNOWN,
    VISIBLE,
    ClipFlow,
    cell_centres,
    disagreement,
    follow,
    is_known,
    motion_states,
    polish,
)
from lightningdrag.data.video import UnreadableVideo, read_video

SIZE, FRAMES, THINGS = 256, 24, 4
DISTANCES = (1, 2, 4, 8, 16)
GAPS = (2, 4, 8, 16, 23)
POINTS = 256


def texture(rng: np.random.Generator) -> np.ndarray:
    """``(SIZE, SIZE, 3)`` uint8 with detail at several scales."""
    image = np.zeros((SIZE, SIZE, 3))
    for cell, weight in ((4, 0.4), (10, 0.8), (32, 1.0)):
        coarse = rng.standard_normal((SIZE // cell + 2, SIZE // cell + 2, 3))
        image = image + weight * cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return (128 + 40 * image).clip(0, 255).astype(np.uint8)


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A film ``(T, SIZE, SIZE, 3)``, the true tracks of its first frame's cells ``(T, h, w, 2)``, visible."""
    layers = []
    for _ in range(THINGS):
        outline = np.zeros((SIZE, SIZE), np.uint8)
        corners = rng.uniform(-1, 1, (6, 2)) * rng.uniform(20, 50) + rng.uniform(60, SIZE - 60, 2)
        cv2.fillConvexPoly(outline, cv2.convexHull(corners.astype(np.int32)), 1)
        speed, spin = rng.uniform(-4, 4, 2), rng.uniform(-2.5, 2.5)
        layers.append((texture(rng), outline, corners.mean(0), speed, spin))
    ground, grid = texture(rng), cell_centres(SIZE, SIZE)
    film, tracks, tops = [], [], []
    for k in range(FRAMES):
        image, top = ground.copy(), np.zeros((SIZE, SIZE), np.uint8)
        places = [grid]
        for number, (picture, outline, middle, speed, spin) in enumerate(layers, start=1):
            matrix = np.asarray(cv2.getRotationMatrix2D(tuple(middle), spin * k, 1.0), np.float64)
            matrix[:, 2] += speed * k
            alpha = cv2.warpAffine(outline.astype(np.float32), matrix, (SIZE, SIZE))
            moved = cv2.warpAffine(picture, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT_101)
            image = (alpha[..., None] * moved + (1 - alpha[..., None]) * image).round().astype(np.uint8)
            top[alpha > 0.5] = number
            places.append((grid @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
        noise = rng.normal(0, 2, image.shape)
        film.append((image + noise).clip(0, 255).astype(np.uint8))
        tops.append(top)
        tracks.append(np.stack(places))
    start = tops[0][::2, ::2]
    rows, columns = np.indices(start.shape)
    true = np.stack([places[start, rows, columns] for places in tracks])
    pixel = true.round().astype(int)
    inside = ((pixel >= 0) & (pixel < SIZE)).all(-1)
    x, y = pixel.clip(0, SIZE - 1).transpose(3, 0, 1, 2)
    visible = inside & (np.stack(tops)[np.arange(FRAMES)[:, None, None], y, x] == start)
    return np.stack(film), true, visible


def between(film: np.ndarray, flow: ClipFlow, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Motion ``(h, w, 2)`` and states ``(h, w)`` between two frames of a still camera, as pairs get them."""
    first, second = film[start], film[stop]
    grid = cell_centres(*first.shape[:2])
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    forward = polish(grey[0], grey[1], follow(flow, grid, start, stop) - grid)
    backward = polish(grey[1], grey[0], follow(flow, grid, stop, start) - grid)
    state = motion_states(first, second, forward, backward)[0]
    noise = changed_cells(first, second)[1]
    state[doubtful_cells(first, second, forward) & (state == VISIBLE)] = UNKNOWN
    state[~distinct_cells(first, second, forward, noise) & (state == VISIBLE)] = PLAIN
    return forward, state


def measure_scenes(trackers: Trackers, count: int) -> None:
    """Print accuracy by gap: of the flow over moving things and over all points, and of point tracks."""
    facts: dict[tuple[int, str], list[np.ndarray]] = {}
    for seed in range(count):
        film, true, visible = scene(np.random.default_rng(seed))
        flow = trackers.flow(film)
        grid = cell_centres(SIZE, SIZE)
        moves = np.linalg.norm(true[max(GAPS)] - grid, axis=-1) > 1
        cells = np.flatnonzero(moves)[:: max(1, moves.sum() // POINTS)]
        tracks, followed = trackers.points(film, grid.reshape(-1, 2)[cells])
        for gap in GAPS:
            forward, state = between(film, flow, 0, gap)
            error = np.linalg.norm(grid + forward - true[gap], axis=-1)
            moving = np.linalg.norm(true[gap] - grid, axis=-1) > 1
            dense = np.stack((error, visible[gap], is_known(state), state == VISIBLE))
            for name, chosen in (("moving", moving), ("all", np.ones_like(moving))):
                facts.setdefault((gap, name), []).append(dense[:, chosen])
            apart = np.linalg.norm(tracks[gap] - true[gap].reshape(-1, 2)[cells], axis=-1)
            seen = visible[gap].ravel()[cells]
            facts.setdefault((gap, "tracks"), []).append(
                np.stack((apart, seen, followed[gap], followed[gap]))
            )
    print("| frames between | points | " + " | ".join(f"<{d} px" for d in DISTANCES), end="")
    print(" | delta-avg | average Jaccard | visibility right |", end="")
    print(" of those called visible <4 px | called | of those for handles <4 px | for handles |")
    print("|" + "---|" * (len(DISTANCES) + 9))
    for (gap, name), parts in facts.items():
        values = accuracy(*np.concatenate(parts, axis=1))
        print(f"| {gap} | {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")


def accuracy(error: np.ndarray, visible: np.ndarray, called: np.ndarray, handles: np.ndarray) -> list[float]:
    """The metrics of the table from the errors of points ``(N,)`` and what is true and said of them."""
    seen, said = visible > 0, called > 0
    within = [float((error[seen] < d).mean()) for d in DISTANCES]
    jaccard = []
    for d in DISTANCES:
        hits = int((seen & said & (error < d)).sum())
        false = int((said & ~(seen & (error < d))).sum())
        jaccard.append(hits / (int(seen.sum()) + false))
    held = [value for part in (said, handles > 0) for value in ((error[part] < 4).mean(), part.mean())]
    return [*within, float(np.mean(within)), float(np.mean(jaccard)), float((seen == said).mean()), *held]


def measure_clips(trackers: Trackers, videos: list[str], count: int) -> None:
    """Print there-and-back errors of points that move, over clips drawn at random."""
    ends: dict[int, list[np.ndarray]] = {gap: [] for gap in GAPS}
    called: dict[int, list[float]] = {gap: [] for gap in GAPS}
    used = 0
    for place in np.random.default_rng(0).permutation(videos):
        try:
            piece = next(read_video(str(place)))
        except UnreadableVideo:
            continue
        start, stop = max(split_shots(piece), key=lambda shot: shot[1] - shot[0], default=(0, 0))
        film = piece[start:stop][: max(GAPS) + 1]
        if len(film) <= max(GAPS):
            continue
        flow = trackers.flow(film)
        for gap in GAPS:
            there, state = between(film, flow, 0, gap)
            back, _ = between(film, flow, gap, 0)
            moving = np.linalg.norm(there, axis=-1) > 2
            sure = moving & is_known(state)
            ends[gap].append(disagreement(there, back)[sure])
            called[gap].append(sure.sum() / max(1, moving.sum()))
        used += 1
        if used == count:
            break
    print(f"\n{used} clips\n| frames there and back | median px | 90 % | <1 px | <2 px | <4 px | called |")
    print("|---|---|---|---|---|---|---|")
    for gap in GAPS:
        error = np.concatenate(ends[gap])
        within = " | ".join(f"{(error < d).mean():.3f}" for d in (1, 2, 4))
        middle, high = np.quantile(error, (0.5, 0.9))
        print(f"| {gap} | {middle:.2f} | {high:.2f} | {within} | {np.mean(called[gap]):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--flow", default="dis")
    parser.add_argument("--flow-weights", default="")
    parser.add_argument("--tracker", default="lk")
    parser.add_argument("--tracker-weights", default="")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    trackers = load_trackers(
        arguments.flow, arguments.flow_weights, arguments.tracker, arguments.tracker_weights
    )
    measure_scenes(trackers, arguments.scenes)
    if arguments.videos:
        measure_clips(trackers, list(find_videos([str(arguments.videos)])[0].values()), arguments.clips)


if __name__ == "__main__":
    main()
