"""The region stages of a recipe, as plans."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.criteria.criterion import Criterion
from rankdet.models.region.branch import BranchFactory
from rankdet.models.region.settings import RegionSettings
from rankdet.models.region.stage import RoIStage, RoIStageFactory
from rankdet.nn.box_head import RegionPredictor, RegionPredictorFactory
from rankdet.nn.roi import PoolerFactory


def region_stages(
    criterion: Criterion,
    settings: RegionSettings,
    *,
    assigners: Sequence[Assigner],
    head: RegionPredictor | RegionPredictorFactory | None = None,
    pooler: PoolerFactory | None = None,
    box_outputs: int | None = None,
    branches: Sequence[BranchFactory] = (),
) -> list[RoIStageFactory]:
    """A stage for each assigner, with what the (complete) settings say of it.

    Several stages share no state: each has copies of the criterion and of what its branches are made from.
    """
    assert settings.coders is not None, "settings are complete"
    assert settings.proposals is not None, "settings are complete"
    alone = len(assigners) == 1
    return [
        partial(
            RoIStage,
            criterion=criterion if alone else copy.deepcopy(criterion),
            assigner=assigner,
            pooler=pooler,
            head=head,
            coder=settings.coders[min(number, len(settings.coders) - 1)],
            sampler=settings.sampler,
            box_outputs=box_outputs,
            add_objects=settings.proposals.add_objects,
            branches=[branch if alone else copy.deepcopy(branch) for branch in branches],
        )
        for number, assigner in enumerate(assigners)
    ]
