"""HGNetV2 (Baidu, in PaddleDetection) as a backbone of the library: the settings of its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Widths of the stem, of the middle and of the ends of the stages, blocks of each stage, layers of a block. The first
# three sizes are those of DEIMv2, which end at stride 16.
_SIZES: Mapping[str, tuple[list[int], list[int], list[int], list[int], int]] = {
    "Atto": ([3, 16, 16], [16, 32, 64], [64, 256, 256], [1, 1, 1], 3),
    "Femto": ([3, 16, 16], [16, 32, 64], [64, 256, 512], [1, 1, 1], 3),
    "Pico": ([3, 16, 16], [16, 32, 64], [64, 256, 512], [1, 1, 2], 3),
    "B0": ([3, 16, 16], [16, 32, 64, 128], [64, 256, 512, 1024], [1, 1, 2, 1], 3),
    "B2": ([3, 24, 32], [32, 64, 128, 256], [96, 384, 768, 1536], [1, 1, 3, 1], 4),
    "B4": ([3, 32, 48], [48, 96, 192, 384], [128, 512, 1024, 2048], [1, 1, 3, 1], 6),
    "B5": ([3, 32, 64], [64, 128, 256, 512], [128, 512, 1024, 2048], [1, 2, 5, 2], 6),
}


def hgnet(size: str, *, affine: bool = True, maps: int = 3) -> dict[str, Any]:
    """A configuration of ``HGNetV2Backbone`` with its last ``maps`` of the strides 4, 8, 16 and 32.

    ``affine``: whether activations are followed by a learnt scale and bias, as in the small sizes.

    >>> hgnet("B0", maps=2)["out_features"]
    ['stage3', 'stage4']
    """
    stem, middle, ends, blocks, layers = _SIZES[size]
    stages = len(ends)
    return {
        "model_type": "hgnet_v2",
        "embedding_size": stem[-1],
        "hidden_sizes": ends,
        "stem_channels": stem,
        "stage_in_channels": [stem[-1], *ends[:-1]],
        "stage_mid_channels": middle,
        "stage_out_channels": ends,
        "stage_num_blocks": blocks,
        "stage_numb_of_layers": [layers] * stages,
        "stage_downsample": [False, True, True, True][:stages],
        "stage_light_block": [False, False, True, True][:stages],
        "stage_kernel_size": [3, 3, 3] if size == "Atto" else [3, 3, 5, 5][:stages],
        "depths": [layers] * stages,
        "use_learnable_affine_block": affine,
        "out_features": [f"stage{number}" for number in range(1, stages + 1)][-maps:],
    }
