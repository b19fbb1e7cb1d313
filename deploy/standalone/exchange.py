"""One request and its answer: what is known of it before, and what happens to every answer after."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from flask import Response

from deploy.standalone import jsontext
from deploy.standalone.auth import User
from deploy.standalone.errors import ApiError
from deploy.standalone.logs import event
from deploy.standalone.metrics import Metrics

JSON_TYPE = "application/json"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent",
    "Access-Control-Allow-Methods": "GET, DELETE, POST, PUT, HEAD",
}
_access = logging.getLogger("owl.access")
_log = logging.getLogger("owl.api")


@dataclass(slots=True)
class Exchange:
    """``web``: the request is for a web action, whose answers have CORS headers of their own."""

    transaction_id: str
    method: str
    path: str
    web: bool
    metrics: Metrics
    user: User | None = None
    began: float = field(default_factory=time.perf_counter)

    def finish(self, response: Response) -> Response:
        """The last thing that happens to an answer: it gets the id, and is counted and logged."""
        response.headers["X-Request-ID"] = self.transaction_id
        seconds = time.perf_counter() - self.began
        self.metrics.answered(self.method, seconds)
        if _access.isEnabledFor(logging.INFO):
            event(
                _access,
                logging.INFO,
                "request",
                tid=self.transaction_id,
                user=self.user.name if self.user else "-",
                method=self.method,
                path=self.path,
                status=response.status_code,
                ms=round(seconds * 1000, 1),
            )
        return response

    def failed(self, error: ApiError) -> Response:
        """The answer that tells of an error."""
        body = {"error": error.message, "code": self.transaction_id}
        headers = {**(CORS if error.cors and not self.web else {}), **error.headers}
        return Response(jsontext.dumps(body), error.status, headers, mimetype=JSON_TYPE)

    def defect(self, error: Exception) -> Response:
        """The answer to a defect of the server: the user gets the id under which the operator finds the cause."""
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "?"
        # Not the message of the exception: it may quote parameters or keys.
        event(_log, logging.ERROR, "internal error", tid=self.transaction_id, type=type(error).__name__, place=place)
        return self.failed(ApiError(500, "The server failed on this request; its log has more under the id in 'code'."))
