"""`/namespaces`: the user's own one, and its limits."""

from __future__ import annotations

from flask import Blueprint, Response

from deploy.standalone.errors import Rejection
from deploy.standalone.rest import answer, own_namespace, platform, user

blueprint = Blueprint("namespaces", __name__)


@blueprint.get("/namespaces")
@blueprint.get("/namespaces/")
def list_all() -> Response:
    return answer([user().name])


@blueprint.get("/namespaces/<namespace>/limits")
@blueprint.get("/namespaces/<namespace>/limits/")
def limits(namespace: str) -> Response:
    own_namespace(namespace)
    settings = platform().settings
    return answer(
        {
            "concurrentInvocations": settings.concurrent_invocations,
            "firesPerMinute": settings.fires_per_minute,
            "invocationsPerMinute": settings.invocations_per_minute,
            "maxActionConcurrency": settings.max_action_concurrency,
            "maxActionInstances": settings.concurrent_invocations,
            "maxActionLogs": settings.max_action_logs_mib,
            "maxActionMemory": settings.max_action_memory_mib,
            "maxActionTimeout": settings.max_action_timeout_ms,
            "maxParameterSize": f"{settings.max_parameter_bytes} B",
            "minActionConcurrency": 1,
            "minActionLogs": 0,
            "minActionMemory": settings.min_action_memory_mib,
            "minActionTimeout": settings.min_action_timeout_ms,
        }
    )


@blueprint.get("/namespaces/<namespace>/limits/<name>")
def limit(namespace: str, name: str) -> Response:
    raise Rejection(400, f"One limit alone ('{name}') cannot be read; all are at /namespaces/{namespace}/limits.")
