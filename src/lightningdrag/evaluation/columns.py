"""The measures in the order and form in which reports show them."""

from __future__ import annotations

from dataclasses import dataclass

from lightningdrag.evaluation.regions import DAI_RADII

REFERENCE = "reference warp"
"""The row that gains and differences are measured against."""
AVERAGE = "average"
"""The section over all cases."""


@dataclass(frozen=True)
class Column:
    """One measure in the tables.

    Attributes:
        better: 1 if higher is better, -1 if lower is, 0 if neither.
        median: a median over the cases (of each stratum), without an interval, instead of a mean.
        by_point: each case counts as often as it has points: the mean is over points.
        main: shown in the short tables too.
    """

    key: str
    title: str
    form: str
    better: int
    median: bool = False
    by_point: bool = False
    main: bool = False


COLUMNS = (
    Column("psnr", "PSNR, dB", "{:.2f}", 1, main=True),
    Column("ssim", "SSIM", "{:.3f}", 1, main=True),
    Column("lpips", "LPIPS", "{:.3f}", -1, main=True),
    Column("sharpness", "sharpness", "{:.2f}", 0, median=True, main=True),
    Column("ghost", "ghost", "{:.3f}", -1, main=True),
    Column("half_transparent", "half-transparent", "{:.3f}", -1, main=True),
    Column("point_error", "point error", "{:.3f}", -1, main=True),
    Column("pin_error", "pins, px", "{:.2f}", -1, main=True),
    Column("image_fidelity", "IF", "{:.3f}", 1, main=True),
    Column("clip_similarity", "CLIP similarity", "{:.3f}", 1, main=True),
    Column("md", "MD, px", "{:.1f}", -1, by_point=True, main=True),
    Column("md_masked", "m-MD, px", "{:.1f}", -1, by_point=True, main=True),
    Column("md_discs", "MD2 x100", "{:.2f}", -1, by_point=True, main=True),
    Column("changed_outside", "px changed outside", "{:.0f}", -1, main=True),
    Column("seconds", "s/edit", "{:.2f}", -1, median=True, main=True),
    Column("psnr_rim", "PSNR at the rim, dB", "{:.2f}", 1),
    Column("ssim_rim", "SSIM at the rim", "{:.3f}", 1),
    Column("lpips_rim", "LPIPS at the rim", "{:.3f}", -1),
    Column("psnr_outside", "PSNR outside to the source, dB", "{:.2f}", 1),
    Column("ssim_outside", "SSIM outside to the source", "{:.3f}", 1),
    Column("lpips_outside", "LPIPS outside to the source", "{:.3f}", -1),
    Column("psnr_outside_truth", "PSNR outside to the truth, dB", "{:.2f}", 1),
    Column("ssim_outside_truth", "SSIM outside to the truth", "{:.3f}", 1),
    Column("lpips_outside_truth", "LPIPS outside to the truth", "{:.3f}", -1),
    Column("psnr_back", "PSNR dragged back, dB", "{:.2f}", 1),
    Column("ssim_back", "SSIM dragged back", "{:.3f}", 1),
    *(Column(f"dai_{r}", f"DAI {r}", "{:.4f}", -1) for r in DAI_RADII),
    *(Column(f"dai_{r}_released", f"DAI {r}, divided twice", "{:.4f}", -1) for r in DAI_RADII),
    Column("megabytes", "peak memory, MB", "{:.0f}", -1, median=True),
)
CANDIDATE_COLUMNS = (
    Column("deviation_uncovered", "deviation where uncovered, /255", "{:.2f}", 0),
    Column("deviation_targets", "deviation at targets and pins, /255", "{:.2f}", -1),
    Column("best_candidate_gain", "best of four over their mean, dB", "{:.2f}", 1),
)
BREAKDOWN_KEYS = {"psnr", "half_transparent", "point_error", "md", "image_fidelity"}
"""What the tables of points, occlusion, mask area and categories show."""
