"""A server between the client and a real Elasticsearch, which spoils some of what goes through it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Asked(NamedTuple):
    """A request: method, path with what follows, and body."""

    method: str
    path: str
    body: bytes


class Answer(NamedTuple):
    """A status, a body and its type, as they are sent back."""

    status: int
    body: bytes
    type: str = "application/vnd.elasticsearch+json;compatible-with=8"


# Answers a request in the server's place, or is told to let it through: None.
Instead = Callable[[Asked], Answer | None]
# Changes what the server has answered.
Change = Callable[[Asked, Any], Any]


def failed(status: int, kind: str, why: str = "made up") -> Answer:
    """An error as Elasticsearch tells it."""
    error = {"type": kind, "reason": why}
    return Answer(status, json.dumps({"error": {**error, "root_cause": [error]}, "status": status}).encode())


@contextmanager
def between(url: str, instead: Instead = lambda asked: None, change: Change | None = None) -> Iterator[str]:
    """Yield the URL of a server that passes everything on to the one at ``url``, but for what it spoils."""
    place = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one packet: the client waits for more otherwise

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def _pass(self) -> None:
            asked = Asked(self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            answer = instead(asked) or self._through(asked)
            self.send_response(answer.status)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", answer.type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if asked.method != "HEAD":
                self.wfile.write(answer.body)

        def _through(self, asked: Asked) -> Answer:
            connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
            headers = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
            connection.request(asked.method, asked.path, asked.body or None, headers)
            found = connection.getresponse()
            body = found.read()
            connection.close()
            if change is not None and body:
                body = json.dumps(change(asked, json.loads(body))).encode()
            return Answer(found.status, body, found.headers.get("Content-Type", "application/json"))

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
