"""The OpenWhisk REST API as methods."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any
from urllib.parse import quote

import requests
from urllib3.exceptions import NewConnectionError

from rm_agent.openwhisk.activation import Activation
from rm_agent.openwhisk.errors import ConfigurationError, OpenWhiskError, StillRunning, Unreachable
from rm_agent.openwhisk.names import EntityName
from rm_agent.openwhisk.properties import Properties, base_url, is_loopback

CONNECT_TIMEOUT_S = 5.0
RETRY_DELAYS_S = (0.1, 0.3)
IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})

Body = dict[str, Any]

log = logging.getLogger(__name__)


class OpenWhisk:
    """One API host and one user. Safe to use from several threads: each has its own connections.

    Every method raises :class:`OpenWhiskError` with the server's reason when it refuses, :class:`Unreachable`
    when nothing answers. Names are ``name``, ``package/name`` or ``/namespace/package/name``.

    Args:
        apihost: ``http://localhost:3233``, ``localhost:3233``, ``openwhisk.example.com``.
        auth: ``uuid:key``.
        namespace: what names without a namespace belong to; ``_`` is the user's own.
        timeout: seconds to wait for an answer; a blocking call may take 60.
        insecure: accept any certificate.
    """

    def __init__(
        self,
        apihost: str,
        auth: str,
        namespace: str = "_",
        timeout: float = 70,
        insecure: bool = False,
        api_version: str = "v1",
    ) -> None:
        user, colon, key = auth.strip().partition(":")
        if not (user and colon and key):
            raise ConfigurationError("the key of an OpenWhisk user has the form uuid:key")
        self.url = base_url(apihost)
        self.namespace = namespace
        self.timeout = timeout
        self.insecure = insecure
        self._api = f"{self.url}/api/{quote(api_version, safe='')}"
        self._auth = (user.encode(), key.encode())
        self._local = threading.local()

    @classmethod
    def from_environment(cls, apihost: str | None = None, auth: str | None = None, **options: Any) -> OpenWhisk:
        """Arguments > ``OW_APIHOST``/``OW_AUTH`` > ``WSK_CONFIG_FILE`` or ``~/.wskprops``; ``options`` as for the class.

        Raises:
            ConfigurationError: no host or no key is configured.
        """
        found = Properties.read(apihost, auth)
        if not found.apihost:
            raise ConfigurationError("no API host is configured: use --apihost, OW_APIHOST or `wsk property set --apihost`")
        if not found.auth:
            raise ConfigurationError("no key is configured: use --auth, OW_AUTH or `wsk property set --auth`")
        options.setdefault("namespace", found.namespace or "_")
        options.setdefault("api_version", found.api_version or "v1")
        return cls(found.apihost, found.auth, **options)

    def __repr__(self) -> str:
        return f"OpenWhisk({self.url!r}, namespace={self.namespace!r})"

    # The server

    def ping(self) -> bool:
        """Whether an OpenWhisk answers there, within two seconds; never raises."""
        try:
            answer = self._session().get(f"{self.url}/ping", timeout=2, auth=_no_auth, allow_redirects=False)
            return answer.status_code == 200 and answer.text.strip() == "pong"
        except requests.RequestException:
            return False

    def info(self) -> Body:
        """Limits and runtimes of the server (``GET /``, without a key)."""
        return self._json("GET", self.url + "/", auth=False)

    def namespaces(self) -> list[str]:
        return self._json("GET", f"{self._api}/namespaces")

    def limits(self) -> Body:
        """The user's own limits, such as ``invocationsPerMinute``."""
        return self._json("GET", self._collection("limits"))

    # Actions

    def put_action(self, name: str, body: Body, overwrite: bool = True) -> Body:
        return self._put("actions", name, body, overwrite)

    def get_action(self, name: str, code: bool = False) -> Body:
        return self._json("GET", self._entity("actions", name), params={"code": _flag(code)})

    def delete_action(self, name: str) -> Body:
        return self._json("DELETE", self._entity("actions", name))

    def list_actions(self, limit: int = 200, skip: int = 0, package: str | None = None) -> list[Body]:
        """Newest first; ``package`` narrows it to one. At most 200 at once."""
        url = self._collection("actions")
        if package:
            url = self._entity("actions", package) + "/"
        return self._json("GET", url, params={"limit": limit, "skip": skip})

    def invoke(
        self, name: str, params: Body | None = None, *, blocking: bool = True, timeout_ms: int | None = None
    ) -> Activation:
        """Run an action.

        The record comes back also where the action failed (502), and where the platform did (500): look at
        ``success``. A call that was not waited for, or that outlasts 60 s or ``timeout_ms``, is ``pending``: it has
        only its id. It is sent once: never repeated by itself.
        """
        query: dict[str, Any] = {"blocking": _flag(blocking), "result": "false"}
        if timeout_ms is not None:
            query["timeout"] = timeout_ms
        answer = self._send("POST", self._entity("actions", name), params=query, body=params or {})
        body = _decode(answer)
        if isinstance(body, dict) and "activationId" in body and answer.status_code in (200, 202, 500, 502):
            return Activation(body)
        activation_id = answer.headers.get("x-openwhisk-activation-id")
        if answer.status_code == 200 and activation_id:
            # OpenWhisk returns a list bare, without its record, even where the record was asked for.
            response = {"result": body, "status": "success", "success": True}
            return Activation(activationId=activation_id, response=response)
        raise self._error(answer, body)

    # Packages

    def put_package(self, name: str, body: Body, overwrite: bool = True) -> Body:
        return self._put("packages", name, body, overwrite)

    def get_package(self, name: str) -> Body:
        return self._json("GET", self._entity("packages", name))

    def delete_package(self, name: str, force: bool = False) -> Body:
        """``force`` removes its actions too; without it a package that is not empty is refused (409)."""
        return self._json("DELETE", self._entity("packages", name), params={"force": "true"} if force else None)

    def list_packages(self, limit: int = 200, skip: int = 0) -> list[Body]:
        return self._json("GET", self._collection("packages"), params={"limit": limit, "skip": skip})

    # Triggers and rules

    def put_trigger(self, name: str, body: Body, overwrite: bool = True) -> Body:
        return self._put("triggers", name, body, overwrite)

    def get_trigger(self, name: str) -> Body:
        return self._json("GET", self._entity("triggers", name))

    def delete_trigger(self, name: str) -> Body:
        return self._json("DELETE", self._entity("triggers", name))

    def fire(self, name: str, params: Body | None = None) -> str | None:
        """Fire a trigger: its activation id, or None where no active rule listens."""
        answer = self._json("POST", self._entity("triggers", name), body=params or {})
        return answer["activationId"] if isinstance(answer, dict) else None

    def put_rule(self, name: str, body: Body, overwrite: bool = True) -> Body:
        return self._put("rules", name, body, overwrite)

    def get_rule(self, name: str) -> Body:
        return self._json("GET", self._entity("rules", name))

    def delete_rule(self, name: str) -> Body:
        return self._json("DELETE", self._entity("rules", name))

    def set_rule(self, name: str, active: bool) -> None:
        self._json("POST", self._entity("rules", name), body={"status": "active" if active else "inactive"})

    # Activations

    def activations(
        self,
        name: str | None = None,
        since: int | None = None,
        upto: int | None = None,
        limit: int = 200,
        skip: int = 0,
        docs: bool = False,
    ) -> list[Activation]:
        """Newest first, at most 200 at once; ``since`` and ``upto`` in ms since 1970. ``docs`` gives whole records."""
        query: dict[str, Any] = {"limit": limit, "skip": skip}
        query |= {key: value for key, value in {"name": name, "since": since, "upto": upto}.items() if value is not None}
        if docs:
            query["docs"] = "true"
        return [Activation(record) for record in self._json("GET", self._collection("activations"), params=query)]

    def activation(self, activation_id: str) -> Activation:
        return Activation(self._json("GET", self._activation(activation_id)))

    def logs(self, activation_id: str) -> list[str]:
        """Lines such as ``2026-11-22T23:40:59.938572306Z stdout: hello``."""
        return self._json("GET", self._activation(activation_id) + "/logs")["logs"]

    def result(self, activation_id: str) -> Body:
        """``{"result", "success", "status"}`` and, where it was measured, ``size``."""
        return self._json("GET", self._activation(activation_id) + "/result")

    def wait(self, activation_id: str, timeout_s: float, interval_s: float = 0.2) -> Activation:
        """Poll until the record of an accepted call is there.

        Raises:
            StillRunning: it is not there after ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self.activation(activation_id)
            except OpenWhiskError as error:
                if error.status != 404:
                    raise
            if time.monotonic() >= deadline:
                raise StillRunning(f"activation {activation_id} has not finished after {timeout_s:g} s")
            time.sleep(interval_s)

    # Plumbing

    def _collection(self, kind: str, namespace: str | None = None) -> str:
        return f"{self._api}/namespaces/{quote(namespace or self.namespace, safe='')}/{kind}"

    def _entity(self, kind: str, name: str) -> str:
        entity = EntityName.parse(name, self.namespace)
        return f"{self._collection(kind, entity.namespace)}/{entity.url_path}"

    def _activation(self, activation_id: str) -> str:
        return f"{self._collection('activations')}/{quote(activation_id, safe='')}"

    def _put(self, kind: str, name: str, body: Body, overwrite: bool) -> Body:
        return self._json("PUT", self._entity(kind, name), params={"overwrite": _flag(overwrite)}, body=body)

    def _session(self) -> requests.Session:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.verify = not self.insecure
            session.auth = self._auth
            # A proxy has no business between a program and its own machine.
            session.trust_env = not is_loopback(self.url)
        return session

    def _json(self, method: str, url: str, *, params: Any = None, body: Any = None, auth: bool = True) -> Any:
        answer = self._send(method, url, params=params, body=body, auth=auth)
        decoded = _decode(answer)
        if not answer.ok or 300 <= answer.status_code < 400 or _foreign(answer, decoded):
            raise self._error(answer, decoded)
        return decoded

    def _error(self, answer: requests.Response, body: Any) -> OpenWhiskError:
        if _foreign(answer, body):
            return Unreachable(
                f"what answers at {self.url} is not an OpenWhisk (HTTP {answer.status_code}); name one with --apihost"
            )
        message, code = None, None
        if isinstance(body, dict):
            message, code = body.get("error"), body.get("code")
            if isinstance(message, dict):
                message = message.get("message") or json.dumps(message)
        elif isinstance(body, str) and not body.lstrip().startswith("<"):
            message = body.strip()[:500]
        if not message:
            message = f"HTTP {answer.status_code} {answer.reason or ''}".rstrip()
        return OpenWhiskError(answer.status_code, str(message), code if isinstance(code, str) else None)

    def _send(self, method: str, url: str, *, params: Any = None, body: Any = None, auth: bool = True) -> requests.Response:
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        delays = iter(RETRY_DELAYS_S if method in IDEMPOTENT else ())
        while True:
            try:
                answer = self._session().request(
                    method,
                    url,
                    params=params,
                    data=data,
                    headers=headers,
                    auth=None if auth else _no_auth,
                    timeout=(CONNECT_TIMEOUT_S, self.timeout),
                    allow_redirects=False,
                )
                milliseconds = answer.elapsed.total_seconds() * 1000
                log.debug("%s %s -> %d in %.0f ms", method, answer.url, answer.status_code, milliseconds)
                return answer
            except requests.exceptions.SSLError as error:
                raise Unreachable(f"{self.url}: its certificate is not trusted; --insecure accepts it anyway") from error
            except requests.exceptions.ConnectTimeout as error:
                raise Unreachable(f"no answer from {self.url} within {CONNECT_TIMEOUT_S:g} s") from error
            except requests.exceptions.ReadTimeout as error:
                raise Unreachable(f"{self.url} accepted the request but did not answer in {self.timeout:g} s") from error
            except requests.exceptions.ConnectionError as error:
                if not _refused(error):
                    raise Unreachable(f"{self.url} closed the connection without an answer") from error
                delay = next(delays, None)
                if delay is None:
                    raise Unreachable(
                        f"no OpenWhisk answers at {self.url}; start one with `owl up`, or name another with --apihost"
                    ) from error
                time.sleep(delay)
            except requests.exceptions.RequestException as error:
                raise Unreachable(f"cannot ask {self.url}: {type(error).__name__}") from error


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """``auth=None`` would fall back to the session's."""
    return request


def _refused(error: requests.exceptions.ConnectionError) -> bool:
    """Whether no connection came about, so that the request cannot have reached anyone."""
    return isinstance(getattr(error.args[0] if error.args else None, "reason", None), NewConnectionError)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _decode(answer: requests.Response) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError:
        return answer.text


def _foreign(answer: requests.Response, body: Any) -> bool:
    """Whether a web server of another kind answered: OpenWhisk's lists, entities and 404s are JSON of a known form."""
    if "X-Request-ID" in answer.headers or not (answer.ok or answer.status_code in (404, 405, 501)):
        return False
    refusal = isinstance(body, dict) and "error" in body
    return bool(body) and (isinstance(body, str) or not (answer.ok or refusal))
