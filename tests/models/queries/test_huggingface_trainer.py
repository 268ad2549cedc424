"""The example for the Trainer of Hugging Face: its loss trains the library's own model, in its Trainer where it can."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

from examples import huggingface_trainer as example


def test_its_loss_trains_the_model_of_the_library():
    torch.manual_seed(0)
    model = example.build().train()
    batch = example.collate(example.simulate(8))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(15):
        loss = model(**batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert history[-1] < 0.7 * history[0]


@pytest.mark.skipif(find_spec("accelerate") is None, reason="the Trainer of transformers needs accelerate")
def test_in_the_trainer(tmp_path):
    first, last = example.train(20, str(tmp_path))
    assert last < first
