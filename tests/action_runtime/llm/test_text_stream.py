"""Streams of text: whole characters, and nothing of or after a stop string."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from action_runtime.llm.engine import Engine
from action_runtime.llm.text_stream import Detokenizer, StopStrings


def pieces(engine: Engine, tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(engine.tokenizer.decode)
    return [*(detokenizer.push(token) for token in tokens), detokenizer.flush()]


@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=60))
def test_pieces_of_any_text_are_the_text_and_break_no_character(engine: Engine, text: str):
    tokens = engine.tokenizer.encode(text)
    # the vocabulary lacks a few bytes of rare planes
    assume(engine.tokenizer.decode(tokens) == text)
    shown = pieces(engine, tokens)
    assert "".join(shown) == text
    assert not any("\ufffd" in piece for piece in shown)


@given(tokens=st.lists(st.integers(0, 49151), max_size=40))
def test_pieces_of_any_tokens_are_what_decoding_at_once_gives(engine: Engine, tokens: list[int]):
    assert "".join(pieces(engine, tokens)) == engine.tokenizer.decode(tokens)


def test_emoji_of_several_tokens_comes_in_one_piece(engine: Engine):
    tokens = engine.tokenizer.encode("a 🦉!")
    assert len(tokens) > 4
    shown = [piece for piece in pieces(engine, tokens) if piece]
    assert "".join(shown) == "a 🦉!"
    assert any("🦉" in piece for piece in shown)


@given(st.lists(st.text("abc", max_size=3), max_size=12), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_text_is_cut_at_the_stop_that_is_complete_first(parts: list[str], stops: list[str]):
    stream, shown, stopped = StopStrings(stops), "", False
    for part in parts:
        text, stopped = stream.push(part)
        shown += text
        if stopped:
            break
    shown += "" if stopped else stream.flush()
    text = "".join(parts)
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert stopped == bool(ends)
    assert shown == (text[: min(ends)[1]] if ends else text)
