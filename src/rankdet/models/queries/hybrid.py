"""The networks of RT-DETR, D-FINE and DEIM: a hybrid encoder, queries from its best proposals, denoising.

They are those of Hugging Face's transformers. Unlike there, random weights begin as in the original programs:
convolutions and normalisation as torch has them, scores of 0.01. Denoising queries of a batch without objects have
losses too, all 0, so that names are the same in every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from typing_extensions import Self

from rankdet.assign.ground_truth import GroundTruth
from rankdet.models.queries.library import (
    PLACEHOLDER,
    LibraryNetwork,
    MapsAndMasks,
    config_of,
    library,
    library_targets,
    load_pretrained,
)
from rankdet.models.queries.outputs import Denoising, LayerOutputs, QueryOutputs, canvas_frames
from rankdet.nn.backbone import Backbone
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.pyramid import backbone_of


class HybridNetwork(LibraryNetwork):
    """A detector of the family; boxes are fractions of the canvas, because it does not know where padding begins.

    Args:
        model: the library's.
        backbone: takes the place of the model's; None leaves it.

    Attributes:
        kinds: names of the library's configuration and model.
    """

    kinds: ClassVar[tuple[str, str]]
    class_tensors = ("class_embed", "model.decoder.class_embed", "model.enc_score_head", "model.denoising_class_embed")

    def __init__(self, model: nn.Module, *, backbone: Backbone | None = None) -> None:
        super().__init__(model)
        if backbone is not None:
            self.replace_backbone(backbone)
        of_backbone = set(self.backbone.modules())
        for module in self.model.model.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and module not in of_backbone:
                module.reset_parameters()

    @property
    def backbone(self) -> nn.Module:
        """What makes maps of the images."""
        backbone: nn.Module = self.model.model.backbone
        return backbone

    @property
    def pretrainable(self) -> Sequence[Any]:
        """See `LibraryNetwork`; the backbone is one of them, unless it is timm's or your own."""
        return [part for part in (self.model, self.backbone) if hasattr(part, "config")]

    @property
    def queries(self) -> int:
        """How many proposals become queries."""
        return int(self.model.config.num_queries)

    def replace_backbone(self, backbone: Backbone) -> None:
        """Put another one in the place of the model's, and projections of its maps to the width of the encoder."""
        network, width = self.model.model, self.model.config.encoder_hidden_dim
        network.backbone = MapsAndMasks(backbone)
        network.encoder_input_proj = nn.ModuleList(projection(channels, width) for channels in backbone.channels)

    @classmethod
    def made(
        cls,
        settings: Mapping[str, Any],
        *,
        options: Mapping[str, Any] | None,
        backbone: str | Backbone | None,
        pretrained: str | Path | None,
    ) -> Self:
        """The network of a variant, with options of the library's configuration, a backbone and weights if stated."""
        strides = settings.get("feat_strides", (8, 16, 32))
        own = None if backbone is None else backbone_of(backbone, strides)
        if own is not None:
            settings = {**settings, "backbone_config": PLACEHOLDER, "encoder_in_channels": list(own.channels)}
        config, model = (getattr(library(), name) for name in cls.kinds)
        network = cls(model(config_of(config, settings, options)), backbone=own)
        load_pretrained(network, pretrained)
        return network

    def forward(self, batch: ImageBatch, truth: GroundTruth | None) -> QueryOutputs:
        """See `QueryNetwork`."""
        frames = canvas_frames(batch)
        said = self.model(batch.pixels, labels=library_targets(truth, frames))
        if truth is None:
            return QueryOutputs(frames, [LayerOutputs(said.logits, said.pred_boxes)])
        given = said.loss_dict
        layers = self.layers_of(given)
        meta = given["denoising_meta_values"]
        noisy = meta["dn_num_split"][0] if meta else 0
        return QueryOutputs(
            frames,
            [layer.part(slice(noisy, None)) for layer in layers],
            encoder=LayerOutputs(given["enc_topk_logits"], given["enc_topk_bboxes"]),
            denoising=self._denoising([layer.part(slice(noisy)) for layer in layers], meta),
        )

    def layers_of(self, given: Mapping[str, Any]) -> list[LayerOutputs]:
        """What the decoder layers say of noisy queries and others, from what the library gives its loss."""
        of_layers = zip(given["outputs_class"].unbind(1), given["outputs_coord"].unbind(1), strict=True)
        return [LayerOutputs(*layer) for layer in of_layers]

    def _denoising(self, layers: list[LayerOutputs], meta: Mapping[str, Any] | None) -> Denoising | None:
        """The noisy queries; none of them, but connected to what would make them, in a batch without objects."""
        if self.model.config.num_denoising == 0:
            return None
        if meta is not None:
            return Denoising(layers, meta["dn_positive_idx"], repeats=meta["dn_num_group"])
        nothing = 0 * self.model.model.denoising_class_embed.weight.sum()
        said = [layer._replace(logits=layer.logits + nothing) for layer in layers]
        images, device = len(said[0].logits), said[0].logits.device
        return Denoising(said, [nothing.new_empty(0).long().to(device)] * images, repeats=1)


def projection(channels: int, width: int) -> nn.Sequential:
    """A map of a backbone to the width of the encoder."""
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
