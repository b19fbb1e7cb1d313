"""HTTP interface of the agent, on loopback."""

from __future__ import annotations

import errno
from typing import Any

from flask import Flask, Response, jsonify, request
from waitress import create_server
from werkzeug.exceptions import HTTPException

from rm_agent.journal import history
from rm_agent.manager import Manager
from rm_agent.metrics import Metrics
from rm_agent.policy import POLICIES


class PortInUse(Exception):
    """The port cannot be taken; the message says why and what to do."""


def explain(manager: Manager, journal_path: str, name: str) -> list[dict[str, Any]]:
    """Why each container that is or runs ``name`` has what it has: its state and its latest transitions."""
    found = []
    for container in manager.state()["containers"]:
        if name in (container["name"], container["action"], container["action"].rpartition("/")[2]):
            moves = history(journal_path, f"{manager.root}/{container['name']}", limit=10)
            container["history"] = [
                {
                    "time_s": move.time_s,
                    "kind": move.kind,
                    "resource": move.resource,
                    "before": move.before,
                    "after": move.after,
                    "reason": move.reason,
                }
                for move in moves
            ]
            found.append(container)
    return found


def application(manager: Manager, journal_path: str, health: dict[str, Any] | None = None) -> Flask:
    """The routes; ``health`` is shown by ``/health`` beside the state of the service."""
    app = Flask("rm_agent")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    metrics = Metrics(manager)

    @app.errorhandler(HTTPException)
    def _failed(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=error.description), error.code or 500

    @app.get("/health")
    def _health() -> Response:
        return jsonify(
            status="ok",
            policy=manager.policy.name,
            dry=manager.dry,
            root=manager.root,
            containers=len(manager.containers),
            **(health or {}),
        )

    @app.get("/metrics")
    def _metrics() -> Response:
        return Response(metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/state")
    def _state() -> Response:
        return jsonify(manager.state())

    @app.get("/explain")
    def _explain() -> tuple[Response, int]:
        name = request.args.get("container") or request.args.get("action") or ""
        if not name:
            return jsonify(error="name a container or an action: /explain?container=NAME"), 400
        found = explain(manager, journal_path, name)
        if not found:
            return jsonify(error=f"no managed container is or runs {name}"), 404
        return jsonify(found), 200

    @app.get("/events")
    def _events() -> tuple[Response, int]:
        since = request.args.get("since", "0")
        if not since.isascii() or not since.isdigit() or len(since) > 15:
            return jsonify(error="since is the number of the last event you have"), 400
        return jsonify(manager.events(int(since))), 200

    @app.post("/policy")
    def _policy() -> tuple[Response, int]:
        body = request.get_json(silent=True)
        name = body.get("policy") if isinstance(body, dict) else None
        if not isinstance(name, str) or name not in POLICIES:
            return jsonify(error=f'send {{"policy": NAME}} with one of {", ".join(POLICIES)}'), 400
        manager.set_policy(POLICIES[name]())
        manager.wake.set()
        return jsonify(policy=name), 200

    return app


class HttpServer:
    """Listens on 127.0.0.1 from the start; serves in the thread that calls :meth:`run` until :meth:`close`."""

    def __init__(self, app: Flask, port: int) -> None:
        try:
            self._server = create_server(app, host="127.0.0.1", port=port, threads=2, ident="rm-agent")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(f"port {port} is in use: stop what listens there or use --port") from None
            raise PortInUse(f"cannot listen on port {port}: {error.strerror}") from None
        self.port = int(self._server.effective_port)

    def run(self) -> None:
        self._server.run()

    def close(self) -> None:
        self._server.close()
