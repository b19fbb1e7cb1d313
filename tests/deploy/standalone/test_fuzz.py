"""Requests that no client means: each gets an answer that is not the server's fault."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.standalone.jsontext import dumps
from deploy.standalone.server import Server

_WORD = st.sampled_from(
    [
        "_",
        "guest",
        "alice",
        "a",
        "b",
        "pkg",
        "default",
        "%2F",
        "%00",
        "%ff",
        "x" * 300,
        "",
        ".",
        "..",
        "a%20b",
        "a.http",
    ]
)
_COLLECTION = st.sampled_from(["actions", "packages", "triggers", "rules", "activations", "limits", "apis"])
_PATH = st.one_of(
    st.builds(
        lambda collection, rest: "/api/v1/namespaces/_/" + "/".join([collection, *rest]),
        _COLLECTION,
        st.lists(_WORD, max_size=3),
    ),
    st.builds(lambda parts: "/api/v1/web/guest/" + "/".join(parts), st.lists(_WORD, max_size=4)),
    st.builds(lambda parts: "/" + "/".join(parts), st.lists(_WORD | st.just("api") | st.just("v1"), max_size=5)),
)
_FLAG = st.sampled_from(["true", "false", "1", "", "maybe", "-1", "201", "99999999999999999999", "%ff", "a/b/c"])
_QUERY = st.dictionaries(
    st.sampled_from(
        ["overwrite", "blocking", "result", "code", "limit", "skip", "count", "docs", "since", "upto", "name", "force"]
    ),
    _FLAG,
    max_size=4,
)
_VALUE = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.integers(), max_size=2)
_QUALIFIED = st.sampled_from(["/_/a", "/_/b", "/guest/pkg/a", "a", "/", "/_/x/y/z", "/alice/a"])
_BODY = st.fixed_dictionaries(
    {},
    optional={
        "exec": st.fixed_dictionaries(
            {},
            optional={
                "kind": st.sampled_from(["python:3.11", "sequence", "blackbox", "python:default", "cobol:85"]) | _VALUE,
                "code": st.text(max_size=30) | _VALUE,
                "components": st.lists(_QUALIFIED | _VALUE, max_size=3) | _VALUE,
                "image": st.text(max_size=10) | _VALUE,
            },
        )
        | _VALUE,
        "parameters": st.lists(
            st.fixed_dictionaries({"key": st.text(max_size=3) | _VALUE, "value": _VALUE}), max_size=2
        ),
        "annotations": st.lists(
            st.fixed_dictionaries(
                {
                    "key": st.sampled_from(
                        ["final", "web-export", "raw-http", "conductor", "resources", "feed", "binding"]
                    ),
                    "value": _VALUE,
                }
            ),
            max_size=2,
        )
        | _VALUE,
        "limits": st.dictionaries(st.sampled_from(["memory", "timeout"]), _VALUE) | _VALUE,
        "binding": st.fixed_dictionaries({"namespace": _VALUE | st.just("_"), "name": _VALUE | st.just("pkg")})
        | _VALUE,
        "trigger": _QUALIFIED | _VALUE,
        "action": _QUALIFIED | _VALUE,
        "status": st.sampled_from(["active", "inactive"]) | _VALUE,
        "version": st.sampled_from(["1.2.3", "1.2", "999999999999.0.0"]) | _VALUE,
        "publish": _VALUE,
        "delAnnotations": _VALUE,
    },
)
_DATA = _BODY.map(lambda body: dumps(body).encode()) | st.binary(max_size=20)
_TYPE = st.sampled_from(
    ["application/json", "application/json; charset=utf-8", "text/plain", "", "é".encode().decode("latin-1")]
)


@pytest.mark.slow
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"]),
    path=_PATH,
    query=_QUERY,
    data=_DATA,
    mimetype=_TYPE,
)
def test_no_request_is_the_servers_fault(
    server: Server, guest: Any, method: str, path: str, query: dict[str, str], data: bytes, mimetype: str
) -> None:
    if method == "POST" and "/actions/" in path:
        query = {key: value for key, value in query.items() if key != "blocking"}
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    address = path + ("?" + "&".join(f"{key}={value}" for key, value in query.items()) if query else "")
    headers = {"Content-Type": mimetype, "Authorization": _basic(guest)}
    connection.request(method, address, data, headers)
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    assert reply.status < 500 or (reply.status == 502 and path.startswith("/api/v1/web/")), (reply.status, body)
    assert b"Traceback" not in body


def _basic(guest: Any) -> str:
    import requests.auth

    return requests.auth._basic_auth_str(*guest.session.auth)
