"""Requests that no client means: valid ones of every route, changed at random in structure or in their bytes.

Everything is drawn from the random generator that is given, so that a seed gives the same requests anywhere and a
property-based test can shrink them.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from random import Random
from typing import Any

ECHO = "def main(args):\n    return args\n"
OWNER = "judge"  # the user whose public package the requests call and cannot change
API = "/api/v1/namespaces"
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW", "get", "TRACE")

_NAMES = ("a", "b", "pkg", "p/a", "t", "r", "bound", "seq", "x.http", "a b", "é", "..", "default", "x" * 256, "x" * 257)
_SEGMENTS = (
    "_", "bench", "alice", OWNER, "nobody", "whisk.system", "", ".", "..", "%2F", "%00", "%ff", "%", "%zz", "a%20b", "a;b",
    "%2e%2e", "名前", "\\", "a:b", "~", "*", "actions", "activations", "0" * 32, "f" * 31, "F" * 32, "x" * 300, "%F0%9F%A6%89",
)  # fmt: skip
_FLAGS = (
    "true", "false", "1", "0", "", "yes", "maybe", "-1", "0.5", "201", "200", "99999999999999999999", "1e3", "%ff", "%00",
    "a/b/c", "/", "NaN", "١٢", "+5", " 5", "true&x", "60001", "9223372036854775807", "[]",
)  # fmt: skip
_QUERIES = (
    "overwrite", "blocking", "result", "timeout", "code", "limit", "skip", "count", "docs", "since", "upto", "name", "force",
    "nonsense", "",
)  # fmt: skip
_TEXTS = (
    "", "a", "é", "🦉", "\0", "\ud800", "名前", "../../etc/passwd", "/_/a", "/a/b/c/d", "a\nb", "\u202e", "x" * 300, " ", "null",
    "%s%n", "{}", "\x7f", "ﬀ", "Ⅷ", "python:3.11", "sequence", "blackbox", "nodejs:default", "1.2.3", "0", "true",
)  # fmt: skip
_NUMBERS = (0, -1, 1, 2, 30, 127, 128, 300_001, 2**31, 2**53 + 1, 2**63, 2**64, 10**40, 0.5, -0.0, 1e308, 1e-320)
_KEYS = (
    "key", "value", "init", "exec", "kind", "code", "binary", "main", "image", "components", "parameters", "annotations",
    "limits", "memory", "timeout", "logs", "concurrency", "instances", "binding", "namespace", "name", "trigger", "action",
    "path", "status", "version", "publish", "delAnnotations", "final", "web-export", "raw-http", "require-whisk-auth",
    "web-custom-options", "conductor", "resources", "feed", "cpu", "__ow_method", "error", "body", "headers", "", "é",
)  # fmt: skip
_RAW_JSON = (
    b"", b"null", b"[]", b"1", b'"x"', b"{", b"}", b'{"a":}', b"NaN", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e999}',
    b'{"a":1,"a":2}', b'\xef\xbb\xbf{"a":1}', '{"a":1}'.encode("utf-16"), b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"a":"\\u0000"}',
    b"[" * 100_000, b'{"a":' * 50_000, b'{"a":' + b"9" * 5000 + b"}", b"{}{}", b" {} ", b"{'a':1}", b"\0", b"true", b"%7B%7D", b"a=b&c=d",
)  # fmt: skip
_TYPES = (
    "application/json", "application/json; charset=utf-8", "application/json;charset=bogus", "text/plain", "", "*/*", "é",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data", "application/octet-stream",
    "image/png", "application/json, text/html", "x" * 500, "application/vnd.api+json", ";",
)  # fmt: skip
_AUTHORIZATIONS = (
    "",
    "Basic",
    "Basic !",
    "Basic " + "A" * 400,
    "Basic Og==",
    "Basic /////w==",
    "Bearer x",
    "Basic a b",
    "é",
)
_EXTENSIONS = ("", ".json", ".html", ".http", ".svg", ".text", ".bogus", ".", ".json.http")


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``target`` and the headers are sent in UTF-8."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def encode(self) -> bytes:
        head = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogatepass") + self.body


def world() -> list[tuple[str, str, str, dict[str, Any]]]:
    """(user, method, path below the user's namespace, body) of what must exist before the first request."""
    exported = [{"key": "web-export", "value": True}]
    raw = [*exported, {"key": "raw-http", "value": True}]
    conductor = [{"key": "conductor", "value": True}]
    return [
        (OWNER, "PUT", "packages/pub?overwrite=true", {"publish": True, "parameters": [{"key": "given", "value": 1}]}),
        (OWNER, "PUT", "actions/pub/echo?overwrite=true", _action(ECHO)),
        (OWNER, "PUT", "actions/pub/web?overwrite=true", _action(ECHO) | {"annotations": exported}),
        (OWNER, "PUT", "actions/pub/raw?overwrite=true", _action(ECHO) | {"annotations": raw}),
        (OWNER, "PUT", "actions/pub/conduct?overwrite=true", _action(ECHO) | {"annotations": conductor}),
        (OWNER, "PUT", "actions/pub/chain?overwrite=true", _sequence(f"/{OWNER}/pub/echo", f"/{OWNER}/pub/echo")),
        ("bench", "PUT", "packages/p?overwrite=true", {}),
        ("bench", "PUT", "actions/a?overwrite=true", _action(ECHO)),
        ("bench", "PUT", "triggers/t?overwrite=true", {}),
        ("bench", "PUT", "rules/r?overwrite=true", {"trigger": "/_/t", "action": f"/{OWNER}/pub/echo"}),
    ]


def request(rng: Random, authorizations: dict[str, str]) -> Request:
    """A request for a route of the API, most often with something wrong in it.

    ``authorizations``: user -> value of the header; of `bench`, who sends most, and `alice`.
    """
    method, path, query, body = _valid(rng)
    data = b"" if body is None else _body(rng, body)
    if rng.random() < 0.25:
        path = _other_path(rng, path)
    if rng.random() < 0.08:
        method = rng.choice(METHODS)
    query = dict(query)
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        query[rng.choice(_QUERIES)] = rng.choice(_FLAGS)
    target = path + ("?" + "&".join(f"{key}={value}" for key, value in query.items()) if query else "")
    user = "alice" if rng.random() < 0.05 else "bench"
    authorization = authorizations[user] if rng.random() < 0.95 else rng.choice(_AUTHORIZATIONS)
    headers = [("Host", "localhost"), ("Authorization", authorization)]
    if data or rng.random() < 0.3:
        headers.append(("Content-Type", "application/json" if rng.random() < 0.85 else rng.choice(_TYPES)))
    if data or method in ("PUT", "POST"):
        headers.append(("Content-Length", str(len(data))))
    if rng.random() < 0.05:
        headers.append(
            rng.choice((("Accept", "text/html"), ("Origin", "null"), ("X-Request-ID", "é" * 50), ("Cookie", "a=b")))
        )
    # What ends the line or the address is the business of `malformed`.
    target = "".join(character for character in target if character not in " \r\n\t\0#")
    return Request(method, target, tuple(headers), data)


def malformed(rng: Random, valid: Request) -> bytes:
    """The bytes of a request that is broken as HTTP, or breaks off."""
    data = valid.encode()
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    harm = rng.randrange(16)
    if harm == 0:
        return data[: rng.randrange(len(data))]
    if harm == 1:
        changed = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if harm == 2:
        return _with_length(lines, body, str(len(body) + rng.randint(1, 100)).encode())
    if harm == 3:
        lengths = (b"-1", b"+1", b"abc", b"", b"1e3", b"0x10", b"9" * 30, b"1, 1", b"1 1", "١".encode())
        return _with_length(lines, body, rng.choice(lengths))
    if harm == 4:
        return _with_length(lines, body + bytes(rng.randrange(256) for _ in range(20)), str(len(body)).encode())
    if harm == 5:
        return _with_length([*lines, b"Content-Length: 5"], body, str(len(body)).encode())
    if harm == 6:
        return _chunked(rng, lines, body)
    if harm == 7:
        line = b"%s %s %s" % tuple(rng.choice(part) for part in (
            (b"GET", b"", b"G\0T", b"GET GET", b"\xff", b"x" * 5000), (b"/", b"", b"*", b"http://[", b"//", b"/\xff", b"/" + b"a" * 9000, b"?", b"a"),
            (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"HTTP/2", b"", b"http/1.1", b"HTTP/1.", b"HTTP/1.1 x"),
        ))  # fmt: skip
        return b"\r\n".join([line, *lines[1:], b"", b""]) + body
    if harm == 8:
        bad = (
            b"no colon",
            b": empty",
            b"a b: c",
            b"x: \0",
            b" folded",
            b"\xff: \xff",
            b"X: " + b"y" * 300_000,
            b"Host: a\r\nHost: b",
        )
        return b"\r\n".join([*lines, rng.choice(bad), b"", b""]) + body
    if harm == 9:
        return data.replace(b"\r\n", rng.choice((b"\n", b"\r", b"\n\r", b"\r\r\n")))
    if harm == 10:
        return b"\r\n".join(line for line in lines if not line.startswith(b"Host")) + b"\r\n\r\n" + body
    if harm == 11:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    if harm == 12:
        return b"\r\n".join([*lines, b"Expect: 100-continue", b"", b""]) + body
    if harm == 13:
        return b"\r\n".join([*lines, *(b"X-%d: y" % number for number in range(2000)), b"", b""]) + body
    if harm == 14:
        return b"\r\n".join([*lines, b"Connection: Upgrade", b"Upgrade: websocket", b"", b""]) + body
    return data * rng.randint(2, 5)


def _valid(rng: Random) -> tuple[str, str, dict[str, str], Any]:
    """(method, path, query, body): what the API is for, of the routes in turn at random."""
    name, own = rng.choice(_NAMES), f"{API}/{rng.choice(('_', '_', '_', 'bench', 'alice', OWNER))}"
    overwrite = {"overwrite": rng.choice(("true", "false"))}
    payload = {"given": value(rng), "word": rng.choice(_TEXTS)}
    kind = rng.randrange(100)
    if kind < 14:
        return "PUT", f"{own}/actions/{name}", overwrite, _action_body(rng)
    if kind < 20:
        return "PUT", f"{own}/packages/{name}", overwrite, _package_body(rng)
    if kind < 25:
        return "PUT", f"{own}/triggers/{name}", overwrite, {"parameters": _pairs(rng), "annotations": _pairs(rng)}
    if kind < 31:
        return (
            "PUT",
            f"{own}/rules/{name}",
            overwrite,
            {"trigger": "/_/t", "action": rng.choice(("/_/a", f"/{OWNER}/pub/echo")), "status": "active"},
        )
    if kind < 43:
        collection = rng.choice(("actions", "packages", "triggers", "rules", "activations", "limits", "apis"))
        return "GET", f"{own}/{collection}", {}, None
    if kind < 55:
        collection = rng.choice(("actions", "packages", "triggers", "rules"))
        return rng.choice(("GET", "GET", "DELETE")), f"{own}/{collection}/{name}", {}, None
    if kind < 63:
        called = rng.choice(("echo", "echo", "web", "chain", "conduct"))
        return (
            "POST",
            f"{API}/{OWNER}/actions/pub/{called}",
            rng.choice(({"blocking": "true"}, {"blocking": "true", "result": "true"}, {})),
            payload,
        )
    if kind < 64:
        # Whatever was put under these names, in a container of its own.
        return "POST", f"{API}/_/actions/{rng.choice(('a', 'b', 'seq', 'p/a'))}", {"blocking": "true"}, payload
    if kind < 67:
        return "POST", f"{API}/_/triggers/t", {}, payload
    if kind < 70:
        return "POST", f"{own}/rules/{name}", {}, {"status": rng.choice(("active", "inactive"))}
    if kind < 86:
        action = rng.choice(("web", "web", "raw", "echo", "nothing")) + rng.choice(_EXTENSIONS)
        rest = "".join(f"/{rng.choice(_SEGMENTS)}" for _ in range(rng.choice((0, 0, 1, 3))))
        return (
            rng.choice(("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD")),
            f"/api/v1/web/{OWNER}/pub/{action}{rest}",
            {},
            _web_body(rng),
        )
    if kind < 94:
        activation = rng.choice(("0" * 32, "f" * 32, "nonsense", "a" * 31, "Ａ" * 32))
        return "GET", f"{own}/activations/{activation}{rng.choice(('', '/logs', '/result', '/x'))}", {}, None
    return (
        "GET",
        rng.choice(
            (
                "/",
                "/ping",
                "/metrics",
                "/api/v1",
                "/api/v1/api-docs",
                API,
                "/invokers",
                "/api",
                "//",
                "/activation/count",
            )
        ),
        {},
        None,
    )


def _action(code: str) -> dict[str, Any]:
    return {"exec": {"kind": "python:3.11", "code": code}, "limits": {"memory": 128}}


def _sequence(*components: str) -> dict[str, Any]:
    return {"exec": {"kind": "sequence", "components": list(components)}}


def _action_body(rng: Random) -> dict[str, Any]:
    codes = (ECHO, "def main(:", "raise ValueError", "", "x = 1", "def main(args):\n    return 3\n", "UEsDBA==", "é🦉")
    executable = rng.choice((
        {"kind": "python:3.11", "code": rng.choice(codes), "binary": False, "main": "main"},
        {"kind": "python:default", "code": rng.choice(codes)},
        {"kind": "python:3.11", "code": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==", "binary": True},
        {"kind": "sequence", "components": [f"/{OWNER}/pub/echo", "/_/a"]},
        {"kind": "blackbox", "image": "nobody/nothing:1"},
    ))  # fmt: skip
    limits = {
        "memory": rng.choice((128, 256, 512)),
        "timeout": rng.choice((100, 1000, 60_000)),
        "logs": rng.choice((0, 1, 10)),
        "concurrency": 1,
    }
    return {
        "exec": executable,
        "limits": limits,
        "parameters": _pairs(rng),
        "annotations": _pairs(rng),
        "version": "1.2.3",
        "publish": False,
    }


def _package_body(rng: Random) -> dict[str, Any]:
    binding = {"namespace": rng.choice(("_", OWNER)), "name": rng.choice(("pub", "p", "bound"))}
    body = {"parameters": _pairs(rng), "annotations": _pairs(rng), "publish": rng.random() < 0.5}
    return body | ({"binding": binding} if rng.random() < 0.3 else {})


def _pairs(rng: Random) -> list[dict[str, Any]]:
    return [{"key": rng.choice(_KEYS), "value": value(rng, 1)} for _ in range(rng.choice((0, 1, 2)))]


def _web_body(rng: Random) -> Any:
    # An action may ask for any status, also for 500: that would be its own.
    shaped = {
        "statusCode": rng.choice((200, 204, 302, 404, "200", 99, 1000, -1, None, "x", 2.5)),
        "headers": value(rng),
        "body": value(rng),
    }
    return rng.choice(
        (
            None,
            shaped,
            {"body": value(rng)},
            {"error": value(rng)},
            {"html": value(rng), "svg": value(rng), "text": value(rng)},
        )
    )


def value(rng: Random, depth: int = 2) -> Any:
    """Any JSON value; small."""
    kind = rng.randrange(6 if depth else 4)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.choice(_NUMBERS)
    if kind in (2, 3):
        return rng.choice(_TEXTS)
    if kind == 4:
        return [value(rng, depth - 1) for _ in range(rng.randrange(3))]
    return {rng.choice(_KEYS): value(rng, depth - 1) for _ in range(rng.randrange(3))}


def _body(rng: Random, body: Any) -> bytes:
    if rng.random() < 0.08:
        return rng.choice(_RAW_JSON)
    if rng.random() < 0.02:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
    changed = copy.deepcopy(body)
    for _ in range(rng.choice((0, 1, 1, 2))):
        changed = _changed(rng, changed)
    return json.dumps(changed, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _changed(rng: Random, body: Any) -> Any:
    """``body`` with one place in it replaced, removed, or added to."""
    if isinstance(body, dict) and body and rng.random() < 0.9:
        key = rng.choice(sorted(body))
        action = rng.randrange(10)
        if action == 0:
            del body[key]
        elif action == 1:
            body[rng.choice(_KEYS)] = value(rng)
        else:
            body[key] = _changed(rng, body[key])
        return body
    if isinstance(body, list) and body and rng.random() < 0.9:
        place = rng.randrange(len(body))
        if rng.random() < 0.2:
            return body + [body[place]] * rng.choice((1, 60))
        body[place] = _changed(rng, body[place])
        return body
    return value(rng)


def _other_path(rng: Random, path: str) -> str:
    parts = path.split("/")
    place = rng.randrange(1, len(parts))
    action = rng.randrange(4)
    if action == 0:
        del parts[place]
    elif action == 1:
        parts.insert(place, rng.choice(_SEGMENTS))
    elif action == 2:
        return path + rng.choice(("/", "//", "/.", ";x", "%20", "/" + "a" * 8200, ".http"))
    else:
        parts[place] = rng.choice(_SEGMENTS)
    return "/" + "/".join(parts[1:])


def _with_length(lines: list[bytes], body: bytes, length: bytes) -> bytes:
    kept = [line for line in lines if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*kept, b"Content-Length: " + length, b"", b""]) + body


def _chunked(rng: Random, lines: list[bytes], body: bytes) -> bytes:
    kept = [line for line in lines if not line.lower().startswith(b"content-length")]
    whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    chunks = rng.choice((
        whole, whole[:-5], b"zz\r\n" + body, b"-1\r\n", b"ffffffffffffffffff\r\n" + body, b"%x;a=b\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(body), body),
        b"5\r\n" + body, b"1" * 5000 + b"\r\n", b"0\r\n\r\n" * 3,
    ))  # fmt: skip
    coding = rng.choice((b"chunked", b"chunked, chunked", b"gzip, chunked", b"identity", b"CHUNKED", b"bogus"))
    both = [b"Content-Length: 3"] if rng.random() < 0.2 else []
    return b"\r\n".join([*kept, *both, b"Transfer-Encoding: " + coding, b"", b""]) + chunks
