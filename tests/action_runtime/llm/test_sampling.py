"""Choices of the sampler."""

from __future__ import annotations

import pytest
import torch

from action_runtime.llm.sampling import Sampler, SamplingParams

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def choices(count: int = 400, **params: float) -> list[int]:
    sampler = Sampler(SamplingParams(**{"temperature": 1.0, "seed": 7, **params}))
    return [sampler.choose(LOGITS) for _ in range(count)]


def test_temperature_zero_takes_the_likeliest():
    assert set(choices(5, temperature=0)) == {0}


def test_frequencies_follow_the_probabilities():
    chosen = choices(4000)
    assert [chosen.count(token) / 4000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"top_p": 0.4}, {0}),
        ({"top_p": 0.79}, {0, 1}),
        ({"top_p": 1e-9}, {0}),
        ({"top_k": 3, "top_p": 0.8}, {0, 1}),
        ({"temperature": 1e-9}, {0}),
    ],
)
def test_only_what_is_kept_is_chosen(params, kept):
    assert set(choices(**params)) == kept


def test_seed_repeats_the_choices_and_its_absence_does_not():
    assert choices(seed=3) == choices(seed=3) != choices(seed=4)
    assert choices(seed=None) != choices(seed=None)
