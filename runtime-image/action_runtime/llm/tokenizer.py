"""Text to tokens and chats to text, as the model's own files say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from action_runtime.llm.errors import ModelError, RequestError


class Tokenizer:
    """A checkpoint's ``tokenizer.json`` and chat template."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises nothing more specific
            raise ModelError(f"{folder / 'tokenizer.json'} cannot be read: {error}") from None

    def encode(self, text: str, special_tokens: bool = True) -> list[int]:
        """Token ids of a text, with the tokens a text of this model begins with if ``special_tokens``."""
        return self._tokenizer.encode(text, add_special_tokens=special_tokens).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens without the special ones; bytes that are not UTF-8 become U+FFFD."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def chat(self, messages: Sequence[dict[str, str]]) -> str:
        """The text of a chat up to where the assistant's answer begins; raises RequestError if the template refuses."""
        from jinja2 import TemplateError

        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._named_tokens)
        except TemplateError as error:
            raise RequestError(f"messages: the chat template of {self.folder.name} refuses them: {error}") from None

    @cached_property
    def _settings(self) -> dict[str, Any]:
        path = self.folder / "tokenizer_config.json"
        try:
            return json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise ModelError(f"{path} is not valid JSON: {error}") from None

    @cached_property
    def _named_tokens(self) -> dict[str, str]:
        values = {role: self._settings.get(role) or "" for role in ("bos_token", "eos_token")}
        return {role: value["content"] if isinstance(value, dict) else value for role, value in values.items()}

    @cached_property
    def _template(self) -> Any:
        # a template comes with the checkpoint: it must not reach anything but its arguments
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        file = self.folder / "chat_template.jinja"
        source = file.read_text() if file.exists() else self._settings.get("chat_template")
        if not isinstance(source, str):
            raise ModelError(f"{self.folder.name} has no chat template: use `prompt` instead of `messages`")

        def refuse(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        return environment.from_string(source)
