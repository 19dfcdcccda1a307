"""Pixels of an object against the object seen once more, and all others (MaskContrast)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vice.losses.key_queue import KeyQueue
from vice.losses.objects import Objects
from vice.models import Embedder
from vice.models.key_encoder import KeyEncoder, Run
from vice.precision import full_precision
from vice.regions import pool_regions
from vice.regions.bilinear import axis
from vice.runtime.collectives import all_gather, all_reduce_, rank, world_size
from vice.runtime.device import Arriving

IN_BATCH = ("local", "global")
#: Pixels whose vectors and logits exist at a time: of each, 5 D + 3 (B M + K) numbers.
_CHUNK = 2**15
#: Of ENet's class weights (Paszke et al. 2016).
_ENET = 1.02


class MaskContrastLoss(nn.Module):
    """Contrast between objects, and a map of saliency (Van Gansbeke et al. 2021).

    The prototype ``p`` of an object is the direction of the sum of the unit vectors of its pixels
    in a view that a slowly moving copy of the embedder encodes, without gradient. Each pixel ``q``
    of the object in another view, of unit length, must tell it from the prototypes of the batch
    and from those of a queue:

        contrastive = sum_q w CE(q @ [prototypes, queue] / T, its own) / sum_q w

    with the weight ``w = 1 / ln(1.02 + share of the pixels that the object has)``. To it comes the
    cross-entropy of a saliency map with the masks, foreground and background balanced:

        saliency = (beta sum_fg BCE + (1 - beta) sum_bg BCE) / pixels,   beta = share of background

    Logits are computed for 32,768 pixels at a time, and once more on the way back; of each there
    are 5 D + 3 (B M + K) numbers, 43 MB at D = 32 and 32 images with a queue of 128.

    Args:
        queue_keys: Prototypes K of past batches that pixels are told from.
        dim: Width D of the embedding; that of an embedder that the loss is bound to.
        temperature: T.
        in_batch: What prototypes of the batch there are: ``"local"``, the rank's own, with weights
            of its own pixels (the original), or ``"global"``, those of all ranks, which makes two
            ranks with half a batch each train as one with the whole.
        most: Most objects of an image, M.
        chunk: Pixels whose logits exist at a time.
        group: Process group; None is the default group.

    Attributes:
        queue: Prototypes of past batches of all ranks.
        key: Encodes the other view, once it is bound to an embedder.
    """

    def __init__(
        self,
        queue_keys: int = 128,
        dim: int = 1,
        *,
        temperature: float = 0.5,
        in_batch: str = "local",
        most: int = 1,
        chunk: int = _CHUNK,
        group: Any = None,
    ) -> None:
        super().__init__()
        if in_batch not in IN_BATCH:
            raise ValueError(f"in_batch must be one of {IN_BATCH}, not {in_batch!r}")
        self.temperature = temperature
        self.in_batch = in_batch
        self.most = most
        self.chunk = chunk
        self.group = group
        self.queue = KeyQueue(queue_keys, dim)
        self.key = KeyEncoder(group)
        self._arriving: Arriving | None = None
        self._health: dict[str, float] = {}

    def bind(self, embedder: Embedder, run: Run) -> None:
        """Takes a copy of an embedder for the key views, and a queue as wide as its vectors.

        Args:
            embedder: What is trained.
            run: How networks are called: with the network and images.
        """
        self.key.bind(embedder, run)
        self.queue = KeyQueue(len(self.queue), embedder.dim)

    def forward(
        self, embeddings: Tensor, saliency: Tensor, images: Tensor, objects: Objects
    ) -> Tensor:
        """Loss of a batch.

        Args:
            embeddings: (B, D, h, w) of the query views.
            saliency: (B, 1, h, w), raw logits of the same.
            images: (B, 3, H, W), the key views.
            objects: Of both views.

        Returns:
            A scalar; its mean over ranks is the loss of the global batch.
        """
        return self.compare(embeddings, saliency, self.key(images), objects)

    def compare(
        self, embeddings: Tensor, saliency: Tensor, keys: Tensor, objects: Objects
    ) -> Tensor:
        """The loss, given the embedding (B, D, h, w) of the key views in place of these."""
        with torch.autocast(embeddings.device.type, enabled=False):
            queries = full_precision(embeddings)
            prototypes = object_prototypes(keys.to(queries), objects)
            everywhere = self._of_all_ranks(prototypes, objects)
            contrastive, options = self._contrast(queries, prototypes, everywhere, objects)
            salient = self._saliency(full_precision(saliency), objects.masks)
        self.queue.push(everywhere[:, :-2], everywhere[:, -2] > 0)
        loss = contrastive + salient[0]
        self._record(loss, contrastive, options, salient, objects)
        return loss

    def _of_all_ranks(self, prototypes: Tensor, objects: Objects) -> Tensor:
        """(ranks * B M, D + 2): prototypes, whether they are there, pixels; no gradient."""
        columns = [prototypes, objects.present[:, None], objects.counts[:, None]]
        table = torch.cat([each.to(prototypes) for each in columns], dim=1)
        return torch.cat(all_gather(table, self.group))

    def _contrast(
        self, queries: Tensor, prototypes: Tensor, everywhere: Tensor, objects: Objects
    ) -> tuple[Tensor, Tensor]:
        """Weighted mean over pixels, and how many prototypes each is compared with."""
        ranks, first = 1, 0
        batch, present, counts = prototypes, objects.present, objects.counts.to(prototypes)
        if self.in_batch == "global":
            ranks, first = world_size(self.group), rank(self.group) * len(prototypes)
            batch, present, counts = everywhere[:, :-2], everywhere[:, -2] > 0, everywhere[:, -1]
        weights = 1 / torch.log(_ENET + counts / counts.sum().clamp(min=1))
        queue = self.queue.vectors.to(batch)
        absent = torch.zeros_like(counts).masked_fill(~present, -torch.inf)
        total = pixel_cross_entropy(
            queries,
            torch.cat([batch, queue]) / self.temperature,
            torch.cat([absent, queue.new_zeros(len(queue))]),
            torch.cat([weights, queue.new_zeros(len(queue))]),
            objects,
            first=first,
            chunk=self.chunk,
        )
        mean = total * ranks / (weights * counts).sum().clamp(min=torch.finfo(total.dtype).tiny)
        return mean, present.sum() + len(queue)

    def _saliency(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Balanced cross-entropy, and the share of the pixels that are held for salient."""
        logits = F.interpolate(logits, masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
        wanted = (masks > 0).to(logits)
        pixels = wanted.new_full((), wanted.numel())
        ranks, sums = 1, torch.stack([wanted.sum(), pixels])
        if self.in_batch == "global":
            ranks, sums = world_size(self.group), all_reduce_(sums, group=self.group)
        background = 1 - sums[0] / sums[1]
        weights = torch.where(wanted > 0, background, 1 - background)
        total = F.binary_cross_entropy_with_logits(logits, wanted, weights, reduction="sum")
        return total * ranks / sums[1], (logits.detach() > 0).to(logits).mean()

    @torch.no_grad()
    def _record(
        self,
        loss: Tensor,
        contrastive: Tensor,
        options: Tensor,
        salient: tuple[Tensor, Tensor],
        objects: Objects,
    ) -> None:
        """Adds up over the ranks what `health` is worked out from when it is read."""
        images = len(objects.masks)
        shares = [
            loss,
            contrastive,
            salient[0],
            contrastive / options.to(loss).log().clamp(min=1e-6),
            salient[1],
            *(objects.tries / images),
            objects.counts.sum(),
            (objects.masks > 0).sum(),
        ]
        sums = all_reduce_(torch.stack([value.double() for value in shares]), group=self.group)
        means = sums[:-2] / world_size(self.group)
        matched = sums[-2] / sums[-1].clamp(min=1)
        filled = (self.queue.pushed / max(len(self.queue), 1)).clamp(max=1).double()
        self._arriving = Arriving(torch.cat([means, matched[None], filled[None]]))

    @property
    def health(self) -> dict[str, float]:
        """Of the last call; reading it waits until that has been computed."""
        if self._arriving is not None:
            names = (
                "loss",
                "contrastive",
                "saliency",
                "contrastive_over_ln",
                "salient_share",
                "redrawn",
                "replaced",
                "matched_share",
                "queue_filled",
            )
            self._health = dict(zip(names, self._arriving.read().tolist(), strict=True))
            self._arriving = None
        return self._health


@torch.no_grad()
def object_prototypes(keys: Tensor, objects: Objects) -> Tensor:
    """Directions of the sums of unit pixel vectors over each object.

    Args:
        keys: (B, D, h, w), embedding of the key views.
        objects: Their objects, M slots an image.

    Returns:
        (B * M, D) of unit length, zeros in slots without an object.
    """
    # The mean has the direction of the sum, and is pooled without upsampling the embedding.
    means = pool_regions(keys, objects.keys, normalize="pixel").vectors.to(keys)
    table = means.new_zeros(len(objects.present), keys.shape[1])
    return table.index_copy_(0, objects.slots, F.normalize(means, dim=1))


def pixel_cross_entropy(
    embeddings: Tensor,
    columns: Tensor,
    bias: Tensor,
    weights: Tensor,
    objects: Objects,
    *,
    first: int = 0,
    chunk: int = _CHUNK,
) -> Tensor:
    """Weighted sum over an objects' pixels of the cross-entropy of their unit vectors.

    Vectors of pixels are mixed from the embedding where they are needed, for a part of the pixels
    at a time, and once more on the way back.

    Args:
        embeddings: (B, D, h, w).
        columns: (N, D), what unit vectors are multiplied with.
        bias: (N,), added to the logits.
        weights: (N,), by target.
        objects: Whose pixels; a pixel's target is ``first`` plus its slot.
        first: As said.
        chunk: Pixels at a time.

    Returns:
        A scalar, differentiable in the embedding.
    """
    height, width = objects.masks.shape[1:]
    cells = embeddings.permute(0, 2, 3, 1).flatten(0, 2)
    grid = (embeddings.shape[2], embeddings.shape[3])
    rows = axis(height, grid[0], cells)
    across = axis(width, grid[1], cells)
    numbers = objects.masks.flatten()

    def summed(cells: Tensor, pixels: Tensor) -> Tensor:
        image, y, x = pixels // (height * width), pixels // width % height, pixels % width
        target = first + image * objects.most + numbers[pixels].long() - 1
        start = image * grid[0]
        corners = [
            (start + down[y]) * grid[1] + right[x]
            for down in (rows.low, rows.high)
            for right in (across.low, across.high)
        ]
        # One gather: its gradient is one sum over cells, in the order of the pixels.
        four = cells.index_select(0, torch.cat(corners)).unflatten(0, (4, -1))
        share = across.share[x][:, None]
        above, below = torch.lerp(four[0], four[1], share), torch.lerp(four[2], four[3], share)
        vectors = F.normalize(torch.lerp(above, below, rows.share[y][:, None]), dim=1)
        return F.cross_entropy(F.linear(vectors, columns, bias), target, weights, reduction="sum")

    total = embeddings.new_zeros(())
    for part in objects.pixels.long().split(chunk):
        # Nothing is drawn in it, so no random state is kept for the second time.
        total = total + checkpoint(
            summed, cells, part, use_reentrant=False, preserve_rng_state=False
        )
    return total
