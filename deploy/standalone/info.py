"""What the server tells without a key: what it is, how it is, and its metrics."""

from __future__ import annotations

from flask import Blueprint, Response, current_app
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from deploy.standalone import page, runtimes, swagger
from deploy.standalone.rest import answer, bare_answer, platform
from deploy.standalone.settings import MIB

root = Blueprint("root", __name__)
root.register_blueprint(page.blueprint)
api = Blueprint("api", __name__)
_PROJECT = "https://github.com/apache/openwhisk/issues"


@root.get("/")
def describe() -> Response:
    """The page for browsers, limits and runtimes as JSON for everybody else."""
    response = page.shown() if page.wanted() else _description()
    response.vary.add("Accept")
    return response


def _description() -> Response:
    settings = platform().settings
    bounds = {
        "action_duration": (settings.min_action_timeout_ms, settings.max_action_timeout_ms),
        "action_memory": (settings.min_action_memory_mib * MIB, settings.max_action_memory_mib * MIB),
        "action_logs": (0, settings.max_action_logs_mib * MIB),
    }
    limits = {
        "actions_per_minute": settings.invocations_per_minute,
        "triggers_per_minute": settings.fires_per_minute,
        "concurrent_actions": settings.concurrent_invocations,
        "sequence_length": settings.sequence_length,
    }
    for name, (low, high) in bounds.items():
        limits |= {f"min_{name}": low, f"max_{name}": high}
        limits |= {f"default_min_{name}": low, f"default_max_{name}": high}
    return bare_answer(
        {
            "description": "OpenWhisk",
            "api_paths": ["/api/v1"],
            "support": {"github": _PROJECT, "slack": "http://slack.openwhisk.org"},
            "limits": limits,
            "runtimes": runtimes.RUNTIMES,
        }
    )


@root.get("/ping")
def ping() -> Response:
    return Response("pong", content_type="text/plain; charset=UTF-8")


@root.get("/metrics")
def metrics() -> Response:
    return Response(generate_latest(platform().metrics.registry), content_type=CONTENT_TYPE_LATEST)


@root.get("/invokers")
def invokers() -> Response:
    return bare_answer({"invoker0/0": "up"})


@root.get("/invokers/healthy/count")
def healthy_invokers() -> Response:
    return bare_answer(1)


@root.get("/invokers/ready")
def ready_invokers() -> Response:
    return bare_answer({"healthy": "1/1"})


@root.get("/activation/count")
def running_activations() -> Response:
    return bare_answer(platform().invocations.in_flight)


@api.get("")
@api.get("/")
def version() -> Response:
    return answer(
        {
            "description": "OpenWhisk API",
            "api_version": "1.0.0",
            "api_version_path": "v1",
            "build": "owl",
            "buildno": "standalone",
            "swagger_paths": {"ui": "/docs", "api-docs": "/api-docs"},
        }
    )


@root.get("/api-docs")
@api.get("/api-docs")
def api_docs() -> Response:
    return answer(swagger.document(current_app.url_map))
