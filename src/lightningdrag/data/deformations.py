"""Motions for photos: things that are shifted, turned, stretched or bent at a joint; local deformations.

All are backwards, second picture -> first, so that they are exact at every pixel of the second.
"""

from __future__ import annotations

import cv2
import numpy as np

from lightningdrag.data.pairs import Rejected
from lightningdrag.data.tracks import pixel_grid

MAX_SLOPE = 0.85
"""Of a smooth displacement; below 1 it can be inverted."""
MOTION_RANGE = (0.012, 0.40)  # of the short side
BENT = 0.35
"""Share of things of which only an end moves."""


def local_deformation(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A smooth displacement ``(H, W, 2)`` with local support: push, stretch, zoom, twist or bend."""
    height, width = shape
    short = min(shape)
    radius = np.exp(rng.uniform(np.log(0.15), np.log(0.6))) * short
    centre = np.array([rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.85) * height])
    aspect = np.exp(rng.uniform(-0.6, 0.6))
    angle = rng.uniform(0, np.pi)
    offset = pixel_grid(*shape) - centre
    turned = offset @ _rotation(angle) / (radius * np.array([aspect, 1 / aspect]))
    falloff = _bump(np.linalg.norm(turned, axis=-1))[..., None]
    direction = np.array([np.cos(angle), np.sin(angle)])
    kind = rng.choice(["push", "stretch", "zoom", "twist", "bend"])
    if kind == "push":
        field = falloff * rng.standard_normal(2) * radius
    elif kind == "stretch":
        field = falloff * (offset @ direction)[..., None] * direction * rng.choice([-1, 1])
    elif kind == "zoom":
        field = falloff * offset * rng.choice([-1, 1])
    elif kind == "twist":
        field = falloff * offset @ np.array([[0, 1], [-1, 0]]) * rng.choice([-1, 1])
    else:  # one side of a pivot turns about it
        side = 1 / (1 + np.exp(-(offset @ direction) / (0.15 * radius)))
        field = falloff * side[..., None] * (offset @ np.array([[0, 1], [-1, 0]])) * rng.choice([-1, 1])
    return _limited(field.astype(np.float32), rng.uniform(0.4, MAX_SLOPE))


def random_motion(alpha: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A motion of a thing: the whole of it moves, mostly somewhat elastically, or an end of it does.

    Args:
        alpha: ``(H, W)`` float32 in [0, 1], 1 where the thing is.

    Returns:
        An affine map ``(2, 3)``, and the smooth displacement ``(H, W, 2)`` before it.

    Raises:
        Rejected: alpha is empty.
    """
    ys, xs = np.nonzero(alpha > 0.5)
    if not len(xs):
        raise Rejected("no thing could be cut out")
    pixels = np.stack((xs, ys), -1).astype(np.float64)
    if rng.random() < BENT:
        return np.eye(2, 3), end_motion(alpha.shape, pixels, rng)
    affine = _drawn_out(pixels, rng) if rng.random() < 0.25 else _shifted(alpha.shape, pixels, rng)
    if rng.random() < 0.6:
        return affine, _elastic(alpha.shape, len(pixels), rng)
    return affine, np.zeros((*alpha.shape, 2), np.float32)


def _shifted(shape: tuple[int, int], pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The affine map second -> first of a shift, often with a turn or a scale; or of these alone, on the
    spot; or of a turn about a point beyond the rim."""
    middle, outward = _middle_and_outward(pixels, rng, draws=1)
    kind = rng.random()
    if kind < 0.3:  # on the spot
        return _turned(middle, rng.uniform(-60, 60) * (rng.random() < 0.6), np.exp(rng.uniform(-0.6, 0.6)))
    if kind < 0.45:
        return _turned(middle + 1.2 * outward, rng.uniform(-60, 60), 1.0)
    length = np.exp(rng.uniform(*np.log(MOTION_RANGE))) * min(shape)
    direction = rng.uniform(0, 2 * np.pi)
    shift = length * np.array([np.cos(direction), np.sin(direction)])
    if shift @ (np.array(shape[::-1]) / 2 - middle) < 0 and rng.random() < 0.7:  # stay in the picture
        shift = -shift
    angle = rng.normal(0, 25) if rng.random() < 0.5 else 0.0
    scale = np.exp(rng.uniform(-0.35, 0.35)) if rng.random() < 0.4 else 1.0
    matrix = _turned(middle, angle, scale)
    matrix[:, 2] -= matrix[:, :2] @ shift
    return matrix


def _turned(pivot: np.ndarray, degrees: float, scale: float) -> np.ndarray:
    """The affine map second -> first of a turn and a growth by ``scale`` about a point."""
    forward = cv2.getRotationMatrix2D((float(pivot[0]), float(pivot[1])), float(degrees), float(scale))
    return cv2.invertAffineTransform(forward)


def _drawn_out(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The affine map second -> first of a thing drawn out or pressed in: about its middle, so that both of
    its sides move, or about a point towards an end."""
    middle, outward = _middle_and_outward(pixels, rng, draws=1)
    away = rng.uniform(0, 1.3) * (rng.random() < 0.6)
    return stretched(middle + away * outward, outward, float(np.exp(rng.uniform(-0.5, 0.6))))


def stretched(pivot: np.ndarray, along: np.ndarray, factor: float) -> np.ndarray:
    """The affine map second -> first of a thing that is drawn out by ``factor`` along a direction.

    Args:
        pivot: ``(2,)``, the point that stays.
        along: ``(2,)``, of any length.
    """
    axis = along / max(float(np.linalg.norm(along)), 1e-6)
    linear = np.eye(2) + (1 / factor - 1) * np.outer(axis, axis)
    return np.hstack((linear, (pivot - linear @ pivot)[:, None]))


def end_motion(shape: tuple[int, int], pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth displacement ``(H, W, 2)`` that moves one end of a thing while the rest of it stays.

    The end turns about a joint, as a limb or an ear does, or it is drawn out, pressed in or pushed aside,
    less where it would fold: a turn that had to be limited so lets the end grow a little, too.

    Args:
        shape: (H, W).
        pixels: ``(N, 2)`` (x, y), those of the thing.
    """
    middle, outward = _middle_and_outward(pixels, rng, draws=6)
    reach = max(float(np.linalg.norm(outward)), 1.0)
    axis = outward / reach
    joint = middle + rng.uniform(-0.9, 0.4) * outward
    offset = pixel_grid(*shape) - joint
    along, across = offset @ axis / reach, offset @ np.array([-axis[1], axis[0]]) / reach
    limb = _bump(np.abs(across) / np.exp(rng.uniform(np.log(0.5), np.log(3))))  # may be one of several
    follows = _step(along / rng.uniform(0.3, 1.2)) * limb
    if rng.random() < 0.5:
        motion = offset @ (_rotation(np.deg2rad(rng.uniform(20, 60)) * rng.choice([-1, 1])) - np.eye(2))
    else:
        angle = np.arctan2(axis[1], axis[0]) + rng.choice([0, np.pi]) + rng.normal(0, 0.5)
        motion = reach * rng.uniform(0.2, 0.8) * np.array([np.cos(angle), np.sin(angle)])
    field = (follows[..., None] * motion).astype(np.float32)
    return field * np.float32(min(1.0, MAX_SLOPE / max(_steepest(field), 1e-6)))


def _elastic(shape: tuple[int, int], area: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth random displacement as fine as a thing of ``area`` pixels needs."""
    size = max(24.0, float(np.sqrt(area)))
    coarse = tuple(max(3, round(n / (0.5 * size))) for n in shape)
    noise = rng.standard_normal((*coarse, 2)).astype(np.float32)
    field = cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return _limited(field, rng.uniform(0.1, 0.45))


def _middle_and_outward(
    pixels: np.ndarray, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """A thing's centre, and the way from there to the farthest of a few of its pixels."""
    middle = pixels.mean(0)
    ways = pixels[rng.integers(len(pixels), size=draws)] - middle
    return middle, ways[np.argmax(np.linalg.norm(ways, axis=-1))]


def _steepest(field: np.ndarray) -> float:
    """The largest factor by which a displacement's differences outgrow distances: its spectral norm."""
    along_x, along_y = np.diff(field, axis=1)[:-1], np.diff(field, axis=0)[:, :-1]
    (a, c), (b, d) = (np.moveaxis(x, -1, 0) for x in (along_x, along_y))
    return float((np.hypot(a + d, b - c) + np.hypot(a - d, b + c)).max() / 2)


def _limited(field: np.ndarray, slope: float) -> np.ndarray:
    """Scale a displacement so that its steepest slope is ``slope``."""
    return np.asarray(field * (slope / max(_steepest(field), 1e-6)), np.float32)


def _step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _rotation(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _bump(radius: np.ndarray) -> np.ndarray:
    """1 in the middle, 0 from radius 1 on, smooth."""
    return (1 - np.minimum(radius, 1) ** 2) ** 2
