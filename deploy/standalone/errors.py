"""Errors of the API as types: each knows its status, and whether the answer carries CORS headers."""

from __future__ import annotations


class ApiError(Exception):
    """An answer other than success. ``message`` is shown to the user as ``{"error": message, "code": transid}``."""

    cors = True

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class Rejection(ApiError):
    """A request that did not reach a resource (bad syntax, no such route, no key). OpenWhisk adds no CORS headers."""

    cors = False


class StartError(Exception):
    """Why the server cannot start: one line that says what is wrong and what to do."""


def malformed(reason: str) -> Rejection:
    return Rejection(400, f"The request content was malformed: {reason}")


def bad_query(parameter: str, reason: str) -> Rejection:
    return Rejection(400, f"The query parameter '{parameter}' was malformed: {reason}")


def not_found() -> ApiError:
    return ApiError(404, "The requested resource does not exist.")


def no_route() -> Rejection:
    return Rejection(404, "The requested resource could not be found.")


def exists() -> ApiError:
    return ApiError(409, "resource already exists")


def other_collection() -> ApiError:
    return ApiError(409, "Resource by this name exists but is not in this collection.")


def forbidden(resource: str) -> ApiError:
    return ApiError(403, f"The supplied authentication is not authorized to access '{resource}'.")


def too_large(what: str, size: int | str, allowed: int) -> ApiError:
    return ApiError(413, f"{what} larger than allowed: {size} > {allowed} bytes.")
