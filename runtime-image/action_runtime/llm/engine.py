"""Joins tokenizer, decoder and sampler into text generation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from action_runtime.llm import threads  # before torch is imported
from action_runtime.llm.decoder import Decoder
from action_runtime.llm.errors import RequestError
from action_runtime.llm.kv_cache import KVCache
from action_runtime.llm.low_rank import Adapter
from action_runtime.llm.request import Request
from action_runtime.llm.sampling import Sampler
from action_runtime.llm.text_stream import Detokenizer, StopStrings
from action_runtime.llm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of a generation: the text that became certain and, in the last step, why it ended."""

    text: str
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation; ``ttft_ms`` is the time to the first token, ``decode_ms`` that of all the others."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    ttft_ms: float
    decode_ms: float

    @property
    def tokens_per_s(self) -> float | None:
        """Decoding speed after the first token; None when there was no other."""
        return (self.completion_tokens - 1) / self.decode_ms * 1000 if self.completion_tokens > 1 else None


class Engine:
    """A model that generates text. Requests share nothing but the read-only weights."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer) -> None:
        self.decoder = decoder
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> Engine:
        """Open a prepared model folder; raises ModelError."""
        return cls(Decoder.load(folder), Tokenizer(folder))

    def prompt_tokens(self, request: Request) -> list[int]:
        """Tokens the model is fed; raises RequestError if they and ``max_tokens`` exceed its context."""
        if request.prompt is None:
            tokens = self.tokenizer.encode(self.tokenizer.chat(request.messages), special_tokens=False)
        else:
            tokens = self.tokenizer.encode(request.prompt)
        context = self.decoder.config.context
        if len(tokens) + request.max_tokens > context:
            raise RequestError(
                f"the prompt has {len(tokens)} tokens; with max_tokens {request.max_tokens} "
                f"that exceeds the model's context of {context}"
            )
        return tokens

    def stream(self, request: Request, prompt: list[int], adapter: Adapter | None = None) -> Iterator[Delta]:
        """Generate step by step, one Delta per token; ``prompt`` comes from ``prompt_tokens``."""
        cache = self.decoder.new_cache(len(prompt) + request.max_tokens)
        sampler = Sampler(request.sampling)
        detokenizer, stops = Detokenizer(self.tokenizer.decode), StopStrings(request.stop)
        fed = prompt
        for count in range(1, request.max_tokens + 1):
            token = sampler.choose(self._forward(fed, cache, adapter))
            if token in self.decoder.config.stop_tokens:
                yield _last(stops, detokenizer.flush(), "stop")
                return
            text, stopped = stops.push(detokenizer.push(token))
            if stopped:
                yield Delta(text, "stop")
                return
            if count < request.max_tokens:
                yield Delta(text)
            else:
                last = _last(stops, detokenizer.flush(), "length")
                yield Delta(text + last.text, last.finish_reason)
            fed = [token]

    def _forward(self, tokens: list[int], cache: KVCache, adapter: Adapter | None) -> Tensor:
        tuner = threads.tuner()
        count = tuner.count()
        threads.use(count)
        start = time.perf_counter()
        logits = self.decoder.forward(tokens, cache, adapter)
        if len(tokens) == 1:  # prompts differ in length, and so in time
            tuner.took(count, time.perf_counter() - start)
        return logits

    def complete(self, request: Request, adapter: Adapter | None = None) -> Completion:
        """Generate to the end."""
        start = time.perf_counter()
        prompt = self.prompt_tokens(request)
        first = None
        deltas = []
        for delta in self.stream(request, prompt, adapter):
            first = first or time.perf_counter()
            deltas.append(delta)
        return Completion(
            text=(request.prompt or "" if request.echo else "") + "".join(delta.text for delta in deltas),
            finish_reason=deltas[-1].finish_reason,
            prompt_tokens=len(prompt),
            completion_tokens=len(deltas),
            ttft_ms=(first - start) * 1000,
            decode_ms=(time.perf_counter() - first) * 1000,
        )


def _last(stops: StopStrings, rest: str, reason: FinishReason) -> Delta:
    text, stopped = stops.push(rest)
    return Delta(text, "stop") if stopped else Delta(text + stops.flush(), reason)
