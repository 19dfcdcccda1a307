"""What STEGO trains beside its codes: a cluster probe, and a linear one where labels allow it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.precision import full_precision


class Clusters(nn.Module):
    """Unit vectors that are exported, under the name that readers of states look for."""

    weight: Tensor

    def __init__(self, dim: int, clusters: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(clusters, dim))


class CodeHead(nn.Module):
    """Parts the codes from the features, and has the probes, which do not reach the codes.

    Args:
        dim: Width D of the codes.
        clusters: K of the cluster probe.
        classes: Of the linear probe; 0: there is none.
    """

    def __init__(self, dim: int, clusters: int, classes: int) -> None:
        super().__init__()
        self.dim = dim
        # Linear layers: VISSL gives them the rate of heads.
        self.probe = nn.Linear(dim, clusters, bias=False)
        nn.init.normal_(self.probe.weight)
        self.linear = nn.Conv2d(dim, classes, kernel_size=1) if classes else None
        self.prototypes = Clusters(dim, clusters)
        self.keep_clusters()

    @torch.no_grad()
    def keep_clusters(self) -> None:
        """Exports the directions of the probe's clusters as they are now."""
        self.prototypes.weight.copy_(F.normalize(self.probe.weight, dim=1))

    def forward(self, maps: Tensor) -> list[Tensor]:
        """(2 B, D + C, h, w), images and then neighbors, to what `StegoLoss` is given first."""
        maps = full_precision(maps)
        codes, features = maps[:, : self.dim], maps[:, self.dim :]
        shown = codes.detach().chunk(2)[0]
        clusters = F.normalize(self.probe.weight, dim=1)
        scores = F.conv2d(F.normalize(shown, dim=1), clusters[:, :, None, None])
        logits = shown[:, :0] if self.linear is None else self.linear(shown)
        return [codes, features, scores, logits]
