"""Requests: defaults, and one clear line for each thing that can be wrong."""

from __future__ import annotations

import pytest

from action_runtime.llm.errors import RequestError
from action_runtime.llm.request import Request

USER = {"role": "user", "content": "hi"}


def test_defaults():
    request = Request.parse({"prompt": "hi", "__ow_method": "post", "stop": None})
    assert (request.max_tokens, request.sampling.temperature, request.stop) == (128, 0.0, ())
    assert (request.adapter, request.model, request.echo) == (None, None, False)


def test_a_single_stop_may_be_a_text():
    assert Request.parse({"messages": [USER], "stop": "\n"}).stop == ("\n",)


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": [USER]}, "either"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [USER, {"role": "user"}]}, r"messages\[1\]"),
        ({"messages": [{"role": "root", "content": ""}]}, "role"),
        ({"messages": [{"role": "user", "content": None}]}, "content"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "max_tokens": True}, "max_tokens"),
        ({"prompt": "a", "max_tokens": 1.5}, "max_tokens"),
        ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": "a", "temperature": float("nan")}, "temperature"),
        ({"prompt": "a", "temperature": "hot"}, "temperature"),
        ({"prompt": "a", "top_p": 0}, "top_p"),
        ({"prompt": "a", "top_p": 1.1}, "top_p"),
        ({"prompt": "a", "top_k": -1}, "top_k"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "seed": 2**63}, "seed"),
        ({"prompt": "a", "stop": [""]}, "stop"),
        ({"prompt": "a", "stop": ["x"] * 17}, "stop"),
        ({"prompt": "a", "adapter": "../x"}, "adapter"),
        ({"prompt": "a", "model": "/etc"}, "model"),
        ({"prompt": "a", "echo": 1}, "echo"),
        ({"prompt": "a", "max_token": 1}, "max_token"),
    ],
)
def test_a_bad_parameter_is_named(args, names):
    with pytest.raises(RequestError, match=names) as error:
        Request.parse(args)
    assert "\n" not in str(error.value)
