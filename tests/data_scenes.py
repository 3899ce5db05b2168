"""Small films with known motion, made of noise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 144, 192
SQUARE = 44


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """``(H, W, 3)`` uint8 with detail at several scales."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for cell, weight in ((3, 0.5), (8, 1.0), (24, 1.0)):
        coarse = rng.standard_normal((height // cell + 2, width // cell + 2, 4))
        layers = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        image += weight * (layers[..., 3:] + 0.3 * layers[..., :3])  # mostly grey
    return (128 + 40 * image).clip(0, 255).astype(np.uint8)


def square_film(frames: int = 12, step: tuple[float, float] = (4.0, 1.0), seed: int = 0) -> np.ndarray:
    """A textured square moving by ``step`` (dx, dy) a frame before a textured ground, ``(T, H, W, 3)``."""
    ground, square = texture(HEIGHT, WIDTH, seed), texture(SQUARE, SQUARE, seed + 100)
    return np.stack([_pasted(ground, square, corner(k, step)) for k in range(frames)])


def corner(frame: int, step: tuple[float, float] = (4.0, 1.0)) -> tuple[float, float]:
    """The square's top left corner (x, y) in a frame."""
    return 30 + step[0] * frame, 40 + step[1] * frame


def camera_film(homography: np.ndarray, frames: int = 2, mover: bool = True) -> np.ndarray:
    """The square film seen by a camera that applies ``homography`` (pixels -> pixels) at every frame."""
    margin = 48
    ground, square = texture(HEIGHT + 2 * margin, WIDTH + 2 * margin, 7), texture(SQUARE, SQUARE, 8)
    shift = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1.0]])
    film = []
    for k in range(frames):
        x, y = corner(k)
        scene = _pasted(ground, square, (x + margin, y + margin)) if mover else ground
        view = np.linalg.matrix_power(homography, k) @ np.linalg.inv(shift)
        film.append(cv2.warpPerspective(scene, view, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC))
    return np.stack(film)


def write_video(path: Path, film: np.ndarray, rate: int = 10) -> Path:
    """Encode ``(T, H, W, 3)`` at high quality."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10", "preset": "ultrafast"})
        stream.height, stream.width = film.shape[1:3]
        stream.pix_fmt = "yuv444p"
        for image in film:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def _pasted(ground: np.ndarray, square: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    height, width = ground.shape[:2]
    matrix = np.array([[1, 0, place[0]], [0, 1, place[1]]], np.float64)
    image = cv2.warpAffine(square, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(np.ones(square.shape[:2], np.float32), matrix, (width, height))[..., None]
    return (alpha * image + (1 - alpha) * ground).round().astype(np.uint8)
