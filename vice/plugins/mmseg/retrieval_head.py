"""Nearest-neighbour retrieval as a decode head."""

from __future__ import annotations

from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from vice.errors import UserError
from vice.evaluation.retrieval import RetrievalMemory, patch_grid, to_patches
from vice.models.embeddings import FiniteWatch
from vice.plugins.mmseg.linear_head import repeat_classes


@MODELS.register_module()
class RetrievalHead(BaseDecodeHead):
    """Gives each patch of an embedding the soft label of its neighbours in a memory.

    The soft labels are upsampled bilinearly (align_corners=False) to the input, then compared.

    Args:
        memory: On the device of the embeddings. It is no part of a config: the evaluation hands
            it over.
        patch: Side of a patch in pixels; None: each cell of the embedding is one.
        upsample: ``"scores"``, or ``"classes"`` to decide at each patch and repeat the classes.
        **kwargs: What `BaseDecodeHead` takes.

    Attributes:
        watch: Refuses soft labels that are not finite.
    """

    def __init__(
        self,
        memory: RetrievalMemory | None = None,
        *,
        patch: int | None = None,
        upsample: str = "scores",
        **kwargs: Any,
    ) -> None:
        if memory is None:
            raise UserError(
                "no config holds a memory to retrieve from: run tools/eval_retrieval.py"
            )
        classes = memory.labels.shape[1]
        super().__init__(
            1,
            1,
            num_classes=classes,
            out_channels=classes,
            dropout_ratio=0,
            align_corners=False,
            # Never used; the base class wants one, and warns about its own default.
            loss_decode={"type": "CrossEntropyLoss", "avg_non_ignore": True},
            init_cfg=None,
            **kwargs,
        )
        # The layer of the base class is not needed.
        self.conv_seg = nn.Identity()
        self.memory, self.patch, self.upsample = memory, patch, upsample
        self.watch = FiniteWatch()

    def predict(
        self, inputs: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: Any
    ) -> Tensor:
        """Soft labels at the size of the input.

        Args:
            inputs: The backbone's output; its entry ``in_index`` is (B, D, h, w).
            batch_img_metas: Say how large the input is.
            test_cfg: Without effect.

        Returns:
            float32 (B, C, H, W).
        """
        grid = patch_grid(_input_size(batch_img_metas), self.patch) if self.patch else None
        return self.predict_by_feat(self._retrieve(inputs, grid), batch_img_metas)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Soft labels of each cell of the embedding, float32 (B, C, h, w)."""
        return self._retrieve(inputs, None)

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Soft labels at the size of the input; with ``upsample="classes"`` one-hot votes."""
        if self.upsample != "classes":
            return super().predict_by_feat(seg_logits, batch_img_metas)
        return repeat_classes(seg_logits, _input_size(batch_img_metas))

    def _retrieve(self, inputs: tuple[Tensor, ...], grid: tuple[int, int] | None) -> Tensor:
        patches = to_patches(self._transform_inputs(inputs), grid)
        batch, dim, rows, columns = patches.shape
        labels = self.memory.classify(patches.permute(0, 2, 3, 1).reshape(-1, dim))
        scores = labels.view(batch, rows, columns, -1).permute(0, 3, 1, 2)
        self.watch.see(scores, "its soft labels are not finite: too large numbers")
        return scores

    def loss(self, *args: Any, **kwargs: Any) -> dict:
        """Refuses: nothing is trained.

        Raises:
            UserError: Always.
        """
        raise UserError("retrieval trains nothing: run tools/eval_retrieval.py")


def _input_size(metas: list[dict]) -> tuple[int, int]:
    height, width = metas[0].get("pad_shape", metas[0]["img_shape"])[:2]
    return int(height), int(width)
