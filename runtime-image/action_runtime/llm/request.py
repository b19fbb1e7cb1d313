"""The parameters of a generation, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from action_runtime.llm.errors import RequestError
from action_runtime.llm.model_store import NAME
from action_runtime.llm.sampling import SamplingParams

ROLES = ("system", "user", "assistant")
MOST_STOPS = 16


@dataclass(frozen=True, slots=True)
class Request:
    """One generation: a raw ``prompt`` that is continued, or ``messages`` that the assistant answers."""

    prompt: str | None
    messages: tuple[dict[str, str], ...]
    max_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...]
    adapter: str | None
    model: str | None
    echo: bool

    @classmethod
    def parse(cls, args: Mapping[str, Any]) -> Request:
        """Read a request as JSON gives it; keys of the platform (``__ow_*``) are ignored.

        prompt (text) or messages ([{role, content}]); max_tokens 1 or more (128); temperature 0..2 (0);
        top_p above 0 to 1 (1); top_k 0 or more (0 = off); seed; stop (text or up to 16 of them);
        adapter and model (names); echo (the prompt is part of the text; false).
        Raises RequestError naming the parameter.
        """
        args = {key: value for key, value in args.items() if not key.startswith("__ow_") and value is not None}
        known = [*(field.name for field in fields(cls)), *(field.name for field in fields(SamplingParams))]
        known.remove("sampling")
        if unknown := sorted(args.keys() - set(known)):
            raise RequestError(f"unknown parameter {unknown[0]!r}: known are {', '.join(known)}")
        if ("prompt" in args) == ("messages" in args):
            raise RequestError("give either `prompt` (a text) or `messages` (a list of {role, content})")
        return cls(
            prompt=_prompt(args),
            messages=_messages(args),
            max_tokens=_integer(args, "max_tokens", 128, 1),
            sampling=SamplingParams(
                temperature=_number(args, "temperature", 0.0, 0, 2),
                top_k=_integer(args, "top_k", 0, 0),
                top_p=_top_p(args),
                seed=_integer(args, "seed", 0, 0, 2**63 - 1) if "seed" in args else None,
            ),
            stop=_stop(args),
            adapter=_name(args, "adapter"),
            model=_name(args, "model"),
            echo=_flag(args, "echo"),
        )


def _prompt(args: Mapping[str, Any]) -> str | None:
    prompt = args.get("prompt")
    if prompt is not None and (not isinstance(prompt, str) or not prompt):
        raise RequestError("prompt must be a text that is not empty")
    return prompt


def _messages(args: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    if "messages" not in args:
        return ()
    messages = args["messages"]
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages must be a list of {role, content} that is not empty")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise RequestError(f"messages[{index}] must be an object with exactly `role` and `content`")
        if message["role"] not in ROLES:
            raise RequestError(f"messages[{index}].role must be one of {', '.join(ROLES)}")
        if not isinstance(message["content"], str):
            raise RequestError(f"messages[{index}].content must be a text")
    return tuple(messages)


def _stop(args: Mapping[str, Any]) -> tuple[str, ...]:
    stop = args.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise RequestError(f"stop must be a text or a list of at most {MOST_STOPS} texts that are not empty")
    return tuple(stops)


def _name(args: Mapping[str, Any], key: str) -> str | None:
    value = args.get(key)
    if value is not None and (not isinstance(value, str) or not NAME.fullmatch(value)):
        raise RequestError(f"{key} must be a name of letters, digits, dot, dash and underscore")
    return value


def _flag(args: Mapping[str, Any], key: str) -> bool:
    value = args.get(key, False)
    if not isinstance(value, bool):
        raise RequestError(f"{key} must be true or false")
    return value


def _integer(args: Mapping[str, Any], key: str, default: int, least: int, most: int | None = None) -> int:
    value = args.get(key, default)
    if type(value) is not int or value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"from {least} to {most}"
        raise RequestError(f"{key} must be a whole number, {bounds}")
    return value


def _number(args: Mapping[str, Any], key: str, default: float, least: float, most: float) -> float:
    value = args.get(key, default)
    if type(value) not in (int, float) or not least <= value <= most:
        raise RequestError(f"{key} must be a number from {least} to {most}")
    return float(value)


def _top_p(args: Mapping[str, Any]) -> float:
    value = _number(args, "top_p", 1.0, 0, 1)
    if value == 0:
        raise RequestError("top_p must be above 0")
    return value
