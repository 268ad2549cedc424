"""The region stages of a recipe: a template that users may state, completed by what the recipe is published with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from rankdet.assign.assignment import Assigner
from rankdet.criteria.criterion import Criterion
from rankdet.models.region.settings import RegionSettings
from rankdet.models.region.stage import RoIStage, RoIStageFactory


class RoIStageTemplate(Protocol):
    """A stage of which a recipe completes what is not stated; ``partial(RoIStage, head=...)`` states its head."""

    def __call__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        strides: Sequence[float],
        criterion: Criterion,
        assigner: Assigner,
    ) -> RoIStage:
        """See the class."""


def region_stages(
    template: RoIStageTemplate | None,
    criterion: Criterion,
    settings: RegionSettings,
    *,
    assigners: Sequence[Assigner],
    **defaults: Any,
) -> list[RoIStageFactory]:
    """A stage for each assigner: what the template states, else the defaults, else what the settings say.

    A template states what is not None, as the whole of a configuration names every argument.

    Several stages share no state: each has copies of the criterion and of what the template and the defaults hold.
    """
    assert settings.coders is not None, "settings are complete"
    assert settings.proposals is not None, "settings are complete"
    stages: list[RoIStageFactory] = []
    for number, assigner in enumerate(assigners):
        keywords = getattr(template, "keywords", {}).items()
        stated = {"criterion": criterion, **defaults, **{name: value for name, value in keywords if value is not None}}
        stage = partial(
            getattr(template, "func", template) or RoIStage,
            **{
                "assigner": assigner,
                "coder": settings.coders[min(number, len(settings.coders) - 1)],
                "sampler": settings.sampler,
                "add_objects": settings.proposals.add_objects,
                **(stated if len(assigners) == 1 else copy.deepcopy(stated)),
            },
        )
        stages.append(stage)
    return stages
