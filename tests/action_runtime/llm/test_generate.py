"""What the real model says."""

from __future__ import annotations

from action_runtime.llm.engine import Completion, Engine
from action_runtime.llm.request import Request

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]


def complete(engine: Engine, **args: object) -> Completion:
    return engine.complete(Request.parse(args))


def test_it_knows_the_capital_of_france(engine: Engine):
    done = complete(engine, messages=CAPITAL, max_tokens=20)
    assert done.text == "The capital of France is Paris."
    assert (done.finish_reason, done.prompt_tokens, done.completion_tokens) == ("stop", 37, 8)
    assert done.ttft_ms > 0 and done.tokens_per_s > 0


def test_a_prompt_is_continued_up_to_the_limit(engine: Engine):
    done = complete(engine, prompt="The capital of France is", max_tokens=1, echo=True)
    assert (done.text, done.finish_reason, done.tokens_per_s) == ("The capital of France is Paris", "length", None)


def test_a_seed_repeats_a_text_and_another_seed_changes_it(engine: Engine):
    def tell(seed: int) -> str:
        return complete(engine, prompt="Once upon a time", max_tokens=10, temperature=1.5, seed=seed).text

    assert tell(1) == tell(1) != tell(2)


def test_text_ends_before_a_stop_string(engine: Engine):
    done = complete(engine, messages=CAPITAL, max_tokens=20, stop=["France is P", "nowhere"])
    assert (done.text, done.finish_reason) == ("The capital of ", "stop")


def test_a_stream_is_the_completion_in_pieces(engine: Engine):
    request = Request.parse({"messages": CAPITAL, "max_tokens": 5})
    deltas = list(engine.stream(request, engine.prompt_tokens(request)))
    assert "".join(delta.text for delta in deltas) == engine.complete(request).text
    assert [delta.finish_reason for delta in deltas] == [None] * 4 + ["length"]


def test_a_system_message_replaces_the_default_one(engine: Engine):
    text = engine.tokenizer.chat([{"role": "system", "content": "Be brief."}, *CAPITAL])
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
