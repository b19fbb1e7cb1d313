"""Calls of the LLM function: short chat turns."""

from __future__ import annotations

import random
from typing import Any

GENERATE = "owl/generate"
WARM: dict[str, Any] = {"prompt": "Hello.", "max_tokens": 4, "seed": 1}

PROMPTS = (
    "Name three rivers in Europe.",
    "Write one sentence about the sea.",
    "What is the capital of France?",
    "Explain in a few words what a cache is.",
    "Give a short title for a story about a lighthouse keeper.",
    "Why is the sky blue?",
    "List two uses of a lemon.",
    "Say in one sentence what a percentile is.",
)


def sample(rng: random.Random) -> dict[str, Any]:
    """Parameters of one turn of 16 to 48 tokens; its seed makes the text the same each time."""
    return {
        "prompt": rng.choice(PROMPTS),
        "max_tokens": rng.randint(16, 48),
        "temperature": 0.7,
        "seed": rng.getrandbits(31),
    }
