"""The built-in model's three networks: appearance encoder, motion generator, renderer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightningdrag.ground import stillness
from lightningdrag.models.builtin.blocks import (
    Layer,
    PixelNorm,
    ResidualBlock,
    Transformer,
    noise_level_embedding,
    zeroed,
)
from lightningdrag.models.builtin.evidence import EVIDENCE_CHANNELS, DragBatch, Evidence
from lightningdrag.models.builtin.morphology import grown
from lightningdrag.models.builtin.surroundings import surroundings
from lightningdrag.models.point_embedding import PointEmbedding, point_maps
from lightningdrag.warp import sample

MOTION_CHANNELS = 3
"""What is generated: backward displacement / L (x, y) and visibility in [-1, 1]."""
MOTION_STRIDE = 8
"""Side of its cells, in pixels of the window."""
DECISIVENESS = 8.0
"""How steeply a pixel is either the source's or painted, and a fill either the ground or the thing; training
keeps to honest odds (1)."""
DOUBT = 2.0
"""Logit of being hidden from which on a pixel is painted: what may be there is better than a guess."""
CERTAIN = 4.0
"""The same logit that a hole must reach somewhere: the rest of it may be less sure, as in Canny's edges."""
MORE = 0.5
"""Logit of a fill being more of the thing from which on it is: a rest of it where it was is no ground."""
HOLE_STRIDE = 4
"""Holes are told apart at this stride of the window,"""
HOLE_REACH = 32
"""and followed over so many of its cells from where they are certain."""
NOISE_CHANNELS = 4
"""Channels of noise that the renderer's fill draws on."""


@dataclass(frozen=True)
class BuiltinConfig:
    """Widths, and layers at 1/16. The defaults are the model that ships, 20 MB in half precision."""

    quarter: int = 64
    eighth: int = 128
    sixteenth: int = 192
    render_quarter: int = 96
    render_eighth: int = 128
    render_sixteenth: int = 184
    point_channels: int = 3
    embedding: int = 128
    deeper: int = 1


@dataclass(frozen=True)
class Appearance:
    """What the appearance encoder sees of a source, once per window.

    Attributes:
        quarter, eighth: feature maps at 1/4 and 1/8.
        reference: what the motion generator attends to, at 1/16, normalised.
    """

    quarter: Tensor
    eighth: Tensor
    reference: Tensor

    def expand(self, count: int) -> Appearance:
        """Share one window's appearance among ``count`` candidates."""

        def repeat(x: Tensor) -> Tensor:
            return x.expand(count, -1, -1, -1)

        return Appearance(repeat(self.quarter), repeat(self.eighth), repeat(self.reference))


@dataclass(frozen=True)
class Motion:
    """The motion generator's estimate of the clean motion.

    Attributes:
        displacement: ``(B, 2, H/8, W/8)`` in units of L.
        visibility: ``(B, 1, H/8, W/8)`` logits.
    """

    displacement: Tensor
    visibility: Tensor

    def state(self) -> Tensor:
        """As the generated state, ``(B, MOTION_CHANNELS, H/8, W/8)``."""
        return torch.cat((self.displacement, self.visibility.sigmoid() * 2 - 1), 1)

    def detach(self) -> Motion:
        """Cut off from the gradient."""
        return Motion(self.displacement.detach(), self.visibility.detach())


@dataclass(frozen=True)
class Rendering:
    """The renderer's answer.

    Attributes:
        displacement: ``(B, 2, H, W)`` backward, in pixels of the window.
        visibility: ``(B, 1, H, W)`` logits.
        colour: ``(B, 3, H, W)``.
        thing: ``(B, 1, H, W)`` share of the thing, not of the ground, in what the colour carries on.
        origin: ``(B, 2, H, W)`` like the displacement, where a colour that was put together from patches
            has its texture from; 0 where it was not.
        edges: ``(B, 5, H, W)``, see :class:`~..protocol.MotionEdit`.
    """

    displacement: Tensor
    visibility: Tensor
    colour: Tensor
    thing: Tensor
    origin: Tensor | None = None
    edges: Tensor | None = None

    def shown(self) -> Tensor:
        """``(B, 1, H, W)`` share of the source in the picture: visibility, decided."""
        return decided(self.visibility)

    def compose(self, source: Tensor) -> Tensor:
        """visible ? source at the displacement : colour."""
        shown = self.shown()
        return shown * sample(source, self.displacement) + (1 - shown) * self.colour


class AppearanceEncoder(nn.Module):
    """A pyramid over the source alone; the motion generator attends to its normalised states."""

    def __init__(self, config: BuiltinConfig) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, config.quarter, 3, padding=1))
        self.quarter = ResidualBlock(config.quarter, config.quarter)
        self.down8 = nn.Conv2d(config.quarter, config.eighth, 3, stride=2, padding=1)
        self.eighth = ResidualBlock(config.eighth, config.eighth)
        self.down16 = nn.Conv2d(config.eighth, config.sixteenth, 3, stride=2, padding=1)
        self.sixteenth = ResidualBlock(config.sixteenth, config.sixteenth)
        self.attention16 = Transformer(config.sixteenth)
        self.deeper16 = nn.ModuleList(Layer(config.sixteenth) for _ in range(config.deeper))

    def forward(self, source: Tensor) -> Appearance:
        quarter = self.quarter(self.stem(source))
        eighth = self.eighth(self.down8(quarter))
        sixteenth = self.attention16(self.sixteenth(self.down16(eighth)))
        for layer in self.deeper16:
            sixteenth = layer(sixteenth)
        return Appearance(quarter, eighth, self.attention16.norm1(sixteenth))


class MotionGenerator(nn.Module):
    """Denoises a motion at 1/8 of the window: which part follows the drags, and what that uncovers.

    The displacement is a choice, cell by cell, between the analytic fields and standing still, plus
    a correction.  Predicts the clean motion (x-prediction).  It attends at 1/16 alone: attention at 1/8
    took two fifths of its time and gave nothing (``docs/builtin-history.md``).
    """

    def __init__(self, config: BuiltinConfig) -> None:
        super().__init__()
        self.point_embedding = PointEmbedding(config.point_channels, num_levels=2)
        points = self.point_embedding.channels[-1]
        c8, c16, emb = config.eighth, config.sixteenth, config.embedding
        self.embedding = emb
        self.level = nn.Sequential(nn.Linear(emb, emb), nn.SiLU(), nn.Linear(emb, emb), nn.SiLU())
        self.inputs = nn.Conv2d(MOTION_CHANNELS + EVIDENCE_CHANNELS + 3 * c8, c8, 1)
        self.block8 = ResidualBlock(c8, c8, emb)
        self.down = nn.Conv2d(c8, c16, 3, stride=2, padding=1)
        self.block16 = ResidualBlock(c16, c16, emb)
        self.attention16 = Transformer(c16, points)
        self.deeper16 = nn.ModuleList(Layer(c16, emb, points) for _ in range(config.deeper))
        self.block16_out = ResidualBlock(c16, c16, emb)
        self.up = nn.Conv2d(c16, c8, 1)
        self.block8_up = ResidualBlock(2 * c8, c8, emb)
        self.block8_out = ResidualBlock(c8, c8, emb)
        self.norm = PixelNorm(c8)
        self.head = zeroed(nn.Conv2d(c8, 6, 3, padding=1))

    def forward(
        self,
        state: Tensor,
        t: Tensor,
        batch: DragBatch,
        evidence: Evidence,
        appearance: Appearance,
    ) -> Motion:
        """Estimate the clean motion.

        Args:
            state: ``(B, MOTION_CHANNELS, H/8, W/8)`` at noise level t.
            t: ``(B,)`` in [0, 1], 1 = the noised prior.
        """
        emb = self.level(noise_level_embedding(t, self.embedding))
        points = self.embed_points(batch)
        anchored, free, mask = (F.avg_pool2d(x, 2) for x in (evidence.anchored, evidence.free, evidence.mask))
        cells = evidence.length / 8
        eighth = appearance.eighth
        warped = [sample(eighth, field * cells) for field in (anchored, free)]
        x = torch.cat((state, F.avg_pool2d(evidence.features, 2), eighth, *warped), 1)
        x8 = self.block8(self.inputs(x), emb)
        x16 = self.attention16(self.block16(self.down(x8), emb), appearance.reference, points)
        for layer in self.deeper16:
            x16 = layer(x16, emb, appearance.reference, points)
        x16 = self.up(self.block16_out(x16, emb))
        x8 = self.block8_up(torch.cat((x8, F.interpolate(x16, size=x8.shape[-2:])), 1), emb)
        x8 = self.block8_out(x8, emb)
        choice, correction, visibility = self.head(F.silu(self.norm(x8))).float().split((3, 2, 1), 1)
        displacement = choose(choice, anchored, free) + correction * mask
        return Motion(displacement, visibility + 2)

    def embed_points(self, batch: DragBatch) -> tuple[Tensor, Tensor]:
        """Handle and target embeddings at 1/16."""
        height, width = batch.mask.shape[-2:]
        maps = point_maps(batch.handles, batch.targets, height, width, batch.valid)
        return self.point_embedding(maps)[-1]


class Renderer(nn.Module):
    """Sharpens a motion to pixels, and paints what it uncovered.

    Works at 1/4 of the window; displacement is refined at 1/2, visibility and colour at every pixel. What
    it paints is the difference to its surroundings carried on, a choice between what stands still around it
    and what moves: where it is unsure, a fill is plain.
    """

    def __init__(self, config: BuiltinConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.render_quarter, config.render_eighth, config.render_sixteenth
        pixels = 2 * 48  # source and warped source, unshuffled
        inputs = pixels + 2 * config.quarter + MOTION_CHANNELS + EVIDENCE_CHANNELS + NOISE_CHANNELS
        self.inputs = nn.Conv2d(inputs, c4, 1)
        self.block4 = ResidualBlock(c4, c4)
        self.down8 = nn.Conv2d(c4, c8, 3, stride=2, padding=1)
        self.block8 = ResidualBlock(c8, c8)
        self.down16 = nn.Conv2d(c8, c16, 3, stride=2, padding=1)
        self.block16 = nn.ModuleList([ResidualBlock(c16, c16), ResidualBlock(c16, c16)])
        self.up8 = nn.Conv2d(c16, c8, 1)
        self.block8_up = ResidualBlock(2 * c8, c8)
        self.up4 = nn.Conv2d(c8, c4, 1)
        self.block4_up = ResidualBlock(2 * c4, c4)
        self.norm = PixelNorm(c4)
        self.motion_head = zeroed(nn.Conv2d(c4, 5 * 4, 3, padding=1))
        self.pixel_head = zeroed(nn.Conv2d(c4, 4 * 16, 3, padding=1))
        self.plain_head = zeroed(nn.Conv2d(c4, 4, 3, padding=1))

    def forward(
        self,
        motion: Motion,
        batch: DragBatch,
        evidence: Evidence,
        appearance: Appearance,
        noise: Tensor,
    ) -> Rendering:
        """Render.

        Args:
            motion: clean motion at 1/8.
            noise: ``(B, NOISE_CHANNELS, H/4, W/4)``; what was hidden is drawn from it.
        """
        coarse = upsample(motion.displacement, 2)
        visibility = upsample(motion.visibility, 2)
        full = upsample(motion.displacement, 8) * evidence.length * batch.mask
        # What has left is filled in beforehand: seen, its colours would seep into what it uncovered.
        small = F.avg_pool2d(batch.source, 2), F.avg_pool2d(batch.mask, 2)
        field = upsample(motion.displacement, 4) * evidence.length
        ground, _ = self.carry_on(*small, field, upsample(motion.visibility, 4))
        logits = upsample(motion.visibility, 8)
        plain, shown = upsample(ground, 2), decided(logits)
        x = torch.cat(
            (
                F.pixel_unshuffle(torch.lerp(plain, batch.source, shown), 4),
                F.pixel_unshuffle(torch.lerp(plain, sample(batch.source, full), shown), 4),
                appearance.quarter,
                sample(appearance.quarter, coarse * evidence.length / 4),
                coarse,
                visibility / 4,
                evidence.features,
                noise,
            ),
            1,
        )
        x4 = self.block4(self.inputs(x))
        x8 = self.block8(self.down8(x4))
        x16 = self.down16(x8)
        for block in self.block16:
            x16 = block(x16)
        x8 = self.block8_up(torch.cat((x8, F.interpolate(self.up8(x16), size=x8.shape[-2:])), 1))
        x4 = self.block4_up(torch.cat((x4, F.interpolate(self.up4(x8), size=x4.shape[-2:])), 1))
        x4 = F.silu(self.norm(x4))
        choice, correction = F.pixel_shuffle(self.motion_head(x4).float(), 2).split((3, 2), 1)
        sharpened, painted = F.pixel_shuffle(self.pixel_head(x4).float(), 4).split((1, 3), 1)
        half = choose(choice, upsample(motion.displacement, 4), upsample(evidence.free, 2))
        half = half * evidence.length + correction * (0.1 * evidence.length + 2)
        displacement = upsample(half, 2) * batch.mask
        visibility = logits + sharpened
        ground, thing = self.carry_on(*small, half, F.avg_pool2d(visibility, 2))
        which = F.pixel_shuffle(self.plain_head(x4).float(), 2) - 2
        which = (which if self.training else DECISIVENESS * (which - MORE)).sigmoid()  # a mean is a haze
        colour = upsample(torch.lerp(ground, thing, which), 2) + painted
        return Rendering(displacement, visibility, colour, upsample(which, 2))

    @staticmethod
    def carry_on(
        source: Tensor, mask: Tensor, displacement: Tensor, visibility: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The surroundings of what is hidden. All at half size, for they are smooth; the displacement is in
        pixels of the window. They teach neither it nor the visibility."""
        displacement, visibility = displacement.detach() * mask, visibility.detach()
        picture = sample(source, displacement / 2)
        return surroundings(picture, stillness(displacement), decided(visibility))


class BuiltinNetwork(nn.Module):
    """All of the built-in model's weights."""

    def __init__(self, config: BuiltinConfig | None = None) -> None:
        super().__init__()
        self.config = config or BuiltinConfig()
        self.appearance = AppearanceEncoder(self.config)
        self.motion = MotionGenerator(self.config)
        self.renderer = Renderer(self.config)


def decided(visibility: Tensor) -> Tensor:
    """Logits to 0..1, steeply: an honest probability would blend where it is unsure."""
    return (DECISIVENESS * (visibility + DOUBT)).sigmoid()


def undecided(shown: Tensor) -> Tensor:
    """The logits that are shown as these shares, 0..1."""
    return torch.logit(shown, 1e-6) / DECISIVENESS - DOUBT


def without_weak_holes(visibility: Tensor) -> Tensor:
    """Logits ``(B, 1, h, w)`` without holes that are nowhere certain: there a thing stretches, and is whole.

    Hysteresis (Canny 1986): a hole is what is connected, by logits beyond DOUBT, to one beyond CERTAIN.
    """
    strongest = F.max_pool2d(-visibility, HOLE_STRIDE)
    doubtful, hole = strongest > DOUBT, strongest > max(CERTAIN, DOUBT)
    for _ in range(HOLE_REACH):
        hole = grown(hole, 1) & doubtful
    hole = grown(hole, 1)  # and its soft edge
    hole = F.interpolate(hole.float(), scale_factor=HOLE_STRIDE)
    return torch.where(hole > 0, visibility, visibility.clamp_min(0))


def choose(logits: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Softmax choice between two fields and standing still; zero logits mean mostly the first.

    It stays at honest odds when it is shown, too: where the model is unsure what follows a drag, the thing
    stretches; a decision would tear it.
    """
    weight = (logits + logits.new_tensor([2.0, 0.0, 0.0])[:, None, None]).softmax(1)
    return weight[:, :1] * first + weight[:, 1:2] * second


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear, in float32: these are fields of pixels."""
    return F.interpolate(x.float(), scale_factor=factor, mode="bilinear", align_corners=False)
