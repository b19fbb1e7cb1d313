"""Errors a caller can act on: each message is one line that says what was wrong and what to do."""

from __future__ import annotations


class LLMError(Exception):
    """Base of every error that is safe and useful to show to the user of an action."""


class RequestError(LLMError):
    """A parameter of the request is missing, of the wrong type or out of range."""


class ModelError(LLMError):
    """A model is unknown, not prepared, damaged or of a family that is not supported."""


class AdapterError(LLMError):
    """A LoRA adapter is unknown, damaged or does not fit the model."""
