"""Modulated deformable convolutions (DCNv2; Zhu et al., CVPR 2019) in the stages of a residual network.

As in the published configurations every block's ``conv2`` of 3 x 3 is replaced, strided ones included, and the weights
of the network are kept; offsets start at 0 and modulation at 1/2. They learn at the rate of all else. Oracle:
``tests/reference/deformable.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from rankdet.nn.modification import Modification
from rankdet.ops.precision import without_autocast


class DeformableStages(Modification):
    """Which stages of a backbone have deformable convolutions.

    Args:
        stages: by the names of their maps, 2 for C2 (stride 4) to 5 for C5 (stride 32).
        groups: parts of the input channels, each with offsets and modulation of its own; 4 in the Rank & Sort paper.

    >>> from rankdet.nn import TimmBackbone
    >>> backbone = TimmBackbone("resnet18", modifications=[DeformableStages(stages=(5,))])
    >>> backbone.network.layer4[0].conv2.conv_offset.out_channels
    27
    """

    def __init__(self, *, stages: Sequence[int] = (3, 4, 5), groups: int = 1) -> None:
        if not stages or any(stage not in (2, 3, 4, 5) for stage in stages):
            raise ValueError(f"stages must be some of 2, 3, 4, 5 (C2 to C5, of strides 4 to 32); got {tuple(stages)}")
        if groups < 1:
            raise ValueError(f"groups must be at least 1; got {groups}")
        self.stages = tuple(stages)
        self.groups = groups

    def prepare(self, network: nn.Module) -> None:
        """Replace the convolutions in a freshly built network of timm, in place.

        Raises:
            ValueError: if a stage has no such convolutions, or if their channels cannot be parted into the groups.
        """
        ends = {info["reduction"]: info["module"] for info in network.feature_info.info}  # type: ignore[union-attr]
        for stage in self.stages:
            blocks = list(_blocks(network, ends.get(2**stage, "")))
            if not blocks:
                raise ValueError(
                    f"stage C{stage} of {type(network).__name__} has no blocks with a plain 3 x 3 convolution conv2 to "
                    "be made deformable; take a residual network such as resnet50, resnext101_64x4d or regnety_032"
                )
            for holder, name in blocks:
                conv = getattr(holder, name)
                if conv.in_channels % self.groups:
                    raise ValueError(f"{conv.in_channels} channels of C{stage} have no {self.groups} equal groups")
                setattr(holder, name, ModulatedDeformConv(conv, groups=self.groups))


class ModulatedDeformConv(nn.Module):
    """A convolution that samples its input beside the grid, and weighs what it samples, as the input says.

    Takes over weight, bias, stride, padding, dilation and channel groups of a convolution. Before any training it gives
    half of what the convolution gives (without its bias). Sampling is done in float32 also under autocast.

    >>> import torch
    >>> conv = nn.Conv2d(4, 6, 3, padding=1, bias=False)
    >>> level = torch.rand(1, 4, 5, 5)
    >>> torch.allclose(ModulatedDeformConv(conv)(level), conv(level) / 2, atol=1e-6)
    True
    """

    def __init__(self, conv: nn.Conv2d, *, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation
        self.weight, self.bias = conv.weight, conv.bias
        height, width = conv.kernel_size
        self.conv_offset = nn.Conv2d(
            conv.in_channels,
            3 * groups * height * width,
            conv.kernel_size,  # type: ignore[arg-type]
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            dilation=conv.dilation,  # type: ignore[arg-type]
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, level: Tensor) -> Tensor:
        """(N, C, H, W) -> as the convolution it stands for."""
        guidance = self.conv_offset(level)
        split = guidance.shape[1] * 2 // 3
        with without_autocast(level.device):
            sampled = deform_conv2d(
                level.float(),
                guidance[:, :split].float(),
                self.weight.float(),
                None if self.bias is None else self.bias.float(),
                stride=self.stride,  # type: ignore[arg-type]
                padding=self.padding,  # type: ignore[arg-type]
                dilation=self.dilation,  # type: ignore[arg-type]
                mask=guidance[:, split:].float().sigmoid(),
            )
        return sampled.to(guidance.dtype)

    def extra_repr(self) -> str:
        """Shape of the weight, and the groups."""
        return f"{tuple(self.weight.shape)}, stride={self.stride}, groups={self.groups}"


def _blocks(network: nn.Module, stage: str) -> Iterator[tuple[nn.Module, str]]:
    """Who holds the ``conv2`` of each block of a stage, and by which name."""
    names = {stage, stage.replace(".", "_")}
    found = [module for name, module in network.named_modules() if name and name in names]
    for block in (module for container in found for module in container.modules()):
        holder, name = block, "conv2"
        if hasattr(getattr(block, "conv2", None), "conv"):
            holder, name = block.conv2, "conv"
        conv = getattr(holder, name, None)
        if type(conv) is nn.Conv2d and conv.kernel_size == (3, 3) and conv.padding_mode == "zeros":
            yield holder, name  # type: ignore[misc]
