"""A server that gives recorded answers, for what a real one shows only now and then."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rm_agent.openwhisk import OpenWhisk


class Replay:
    """Gives ``answers`` one after the other and notes each request it got."""

    def __init__(self) -> None:
        self.answers: list[dict] = []
        self.requests: list[dict] = []
        replay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                replay.requests.append(
                    {
                        "method": self.command,
                        "path": self.path,
                        "auth": self.headers.get("Authorization"),
                        "body": json.loads(body) if body else None,
                    }
                )
                if not replay.answers:
                    self.close_connection = True
                    return
                recorded = replay.answers.pop(0)
                recorded_body = recorded.get("body") or {"text": ""}
                content = json.dumps(recorded_body["json"]) if "json" in recorded_body else recorded_body["text"]
                self.send_response(recorded["status"])
                for name, value in recorded.get("headers", {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content.encode())))
                self.end_headers()
                self.wfile.write(content.encode())

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def says(self, status: int, body: object = None, **headers: str) -> None:
        wrapped = {"text": body} if isinstance(body, str) else {"json": body}
        self.answers.append({"status": status, "body": wrapped, "headers": {k.replace("_", "-"): v for k, v in headers.items()}})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def replay():
    server = Replay()
    yield server
    server.close()


@pytest.fixture
def ow(replay) -> OpenWhisk:
    return OpenWhisk(replay.url, "uuid:key", timeout=5)
