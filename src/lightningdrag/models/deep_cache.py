"""Deep features of a denoiser, computed at every other step and used again in between: an approximation."""

from __future__ import annotations

from itertools import chain
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.hooks import HookRegistry, ModelHook
from torch import nn

EVERY = 2
"""Steps from one computation of the deep features to the next."""


class DeepCache:
    """DeepCache (arXiv 2312.00858), its shallowest branch, as hooks on a denoiser.

    Between two full steps only the first convolution, the last layer of the last up block and the output
    run; what lies deeper returns what it did last. An edit begins with a full step, and so does every
    change of the number of guidance branches. Features are kept in the edit's ``Conditioning``.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.full = True
        self.kept: dict[nn.Module, Any] = {}
        *lower, last = unet.up_blocks
        for module in chain(
            unet.down_blocks, [unet.mid_block], lower, last.resnets[:-1], last.attentions[:-1]
        ):
            HookRegistry.check_if_exists_or_initialize(module).register_hook(_Reuse(self), "deep_cache")
        unet.register_forward_pre_hook(self._begin_step, with_kwargs=True)
        unet.register_forward_hook(self._end_step)

    def _begin_step(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.kept = kwargs["cross_attention_kwargs"]["conditioning"].deep_features
        batch, age = self.kept.get(unet, (0, 0))
        self.full = batch != len(args[0]) or age + 1 == EVERY
        self.kept[unet] = len(args[0]), 0 if self.full else age + 1

    def _end_step(self, *_: object) -> None:
        self.kept = {}  # the edit may be over


class _Reuse(ModelHook):
    """Runs a module at full steps and repeats its last output at the others."""

    def __init__(self, cache: DeepCache) -> None:
        super().__init__()
        self._cache = cache

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self._cache.full:
            self._cache.kept[module] = self.fn_ref.original_forward(*args, **kwargs)
        return self._cache.kept[module]
