"""The adversary of the built-in model's painter: does a patch look painted or photographed?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lightningdrag.training.losses import LABEL_STRIDE, Labels, masked_mean

CRITIC_STRIDE = 8


class Critic(nn.Module):
    """Scores patches of pictures whose hidden parts were filled, given where those are.

    A patch critic (Isola et al. 2017, arXiv 1611.07004) with spectral norm (Miyato et al. 2018, arXiv
    1802.05957), whose power iteration takes a step in every pass in training, and so as many a batch as
    it has micro-batches.  All but the fill is the true picture, so that the fill alone can give itself away.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1))

        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            layer(4 * 4, channels, 1),
            nn.LeakyReLU(0.2),
            layer(channels, 2 * channels, 2),
            nn.LeakyReLU(0.2),
            layer(2 * channels, 3 * channels, 2),
            nn.LeakyReLU(0.2),
            layer(3 * channels, 1, 1),
        )

    def forward(self, picture: Tensor, hidden: Tensor) -> Tensor:
        """Scores ``(B, 1, H/8, W/8)``, above 0 for photographed.

        Args:
            picture: ``(B, 3, H, W)`` in [-1, 1].
            hidden: ``(B, 1, H, W)``, 1 where the picture may be painted.
        """
        return self.layers(torch.cat((picture, hidden), 1)).float()


def adversarial_terms(critic: Critic, colour: Tensor, labels: Labels, mask: Tensor) -> dict[str, Tensor]:
    """Hinge losses of the painter ("adversarial") and of the critic ("critic"), on patches with a fill.

    Args:
        colour: ``(B, 3, H, W)``, painted.
        mask: ``(B, 1, H, W)``.
    """
    hidden = F.interpolate(labels.hidden, scale_factor=LABEL_STRIDE) * mask
    patches = (F.avg_pool2d(hidden, CRITIC_STRIDE) > 0.1).float()
    painted = torch.lerp(labels.image, colour.float(), hidden)

    # The painter learns against the critic as it stands; the critic learns from finished paintings.
    standing = {name: weight.detach() for name, weight in critic.named_parameters()}
    fooled = torch.func.functional_call(critic, standing, (painted, hidden))
    return {
        "adversarial": -masked_mean(fooled, patches),
        "critic": masked_mean(F.relu(1 - critic(labels.image, hidden)), patches)
        + masked_mean(F.relu(1 + critic(painted.detach(), hidden)), patches),
    }
