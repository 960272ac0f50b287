"""The two HTTP servers: one is the Hub, the other, of another origin, is where it keeps large files."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hub_server.faults import Fault
from hub_server.routes import CDN_ROUTES, ROUTES, Answer, Request
from hub_server.store import HubError, Store

MAX_BODY = 128 << 20
MAX_CONNECTIONS = 64
MAX_SECONDS = 7200.0
_PIECE = 1 << 16


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    origin: str
    route: str
    method: str
    path: str
    token: bool


class HubServer:
    """The Hub at ``url``, its large files at ``cdn``; use it in a ``with`` block.

    Attributes
    ----------
    store
        What it holds.
    faults
        What shall go wrong; tests append to it.
    seen
        Every request, in the order of arrival.
    xet_folder
        A folder for hf-xet's local store; None: the server does not offer Xet.
    files
        Files at ``url + "/files/NAME"``, as an author's own web site has them.
    """

    def __init__(self, *, xet_folder: Path | None = None) -> None:
        self.store = Store()
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.files: dict[str, bytes] = {}
        self.xet_folder = xet_folder
        self.lock = threading.RLock()
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._servers = [self._listen("hub"), self._listen("cdn")]
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        self._end: threading.Timer | None = None

    def __enter__(self) -> HubServer:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.renew()
        return self

    def renew(self) -> None:
        """Run on for ``MAX_SECONDS`` from now; then it ends by itself, also where a test forgets it."""
        if self._end is not None:
            self._end.cancel()
        self._end = threading.Timer(MAX_SECONDS, self.stop)
        self._end.daemon = True
        self._end.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._end is not None:
            self._end.cancel()
        self.stop()

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fail(self, route: str, kind: str = "status", **settings: Any) -> None:
        """Add a fault."""
        self.faults.append(Fault(route, kind, **settings))

    def routes_since(self, start: int = 0) -> list[str]:
        """``METHOD route`` of the requests since the ``start``-th."""
        return [f"{seen.method} {seen.route}" for seen in self.seen[start:]]

    def _listen(self, origin: str) -> ThreadingHTTPServer:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def log_message(self, *arguments: object) -> None: ...

            def _serve(self) -> None:
                with hub._free:
                    hub._answer(self, origin)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                # A client that goes away is what some tests are about.
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)  # type: ignore[arg-type]

        return Server(("127.0.0.1", 0), Handler)

    def _answer(self, handler: BaseHTTPRequestHandler, origin: str) -> None:
        parts = urlsplit(handler.path)
        routes = ROUTES if origin == "hub" else CDN_ROUTES
        fitting = (
            (route, match, function)
            for route, methods, pattern, function in routes
            if handler.command in methods.split("|") and (match := pattern.fullmatch(parts.path))
        )
        route, match, function = next(fitting, ("unknown", None, None))
        token = handler.headers.get("Authorization") is not None
        with self.lock:
            self.seen.append(Seen(origin, route, handler.command, handler.path, token))
            fault = next((fault for fault in self.faults if fault.hits(route, handler.command, handler.path)), None)
        length = int(handler.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            handler.close_connection = True
            self._send(handler, Answer(status=413), None)
            return
        if fault is not None and fault.kind == "reset" and handler.command in ("PUT", "POST"):
            handler.rfile.read(min(fault.after, length))
            self._reset(handler)
            return
        body = handler.rfile.read(length)
        if fault is not None and fault.kind == "hang":
            time.sleep(fault.seconds)
        if fault is not None and fault.kind == "status":
            self._send(handler, Answer(status=fault.status, headers=fault.headers, body=b"{}"), None)
            return
        try:
            if function is None or match is None:
                raise HubError(404, None, f"no route for {handler.command} {handler.path}")
            if origin == "cdn" and token:
                raise HubError(400, None, "a token was sent to another origin")
            names = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            request = Request(self, handler.command, names, dict(parse_qsl(parts.query)), handler.headers, body)
            with self.lock:
                answer = function(request)
        except HubError as error:
            headers = dict(error.headers)
            if error.code:
                headers["X-Error-Code"] = error.code
            if error.message:
                headers["X-Error-Message"] = error.message
            answer = Answer(status=error.status, headers=headers, body=json.dumps({"error": error.message}).encode())
        self._send(handler, answer, fault)

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer, fault: Fault | None) -> None:
        kind = fault.kind if fault is not None else ""
        body, status, headers = answer.body, answer.status, dict(answer.headers)
        if fault is not None and kind == "lost":
            body, status, headers = b"{}", fault.status, fault.headers
        if fault is not None and kind == "edit":
            body = body.replace(*fault.edit)
        if kind == "html":
            body, status, headers = b"<!DOCTYPE html><html><body>Log in to the network</body></html>", 200, {"Content-Type": "text/html"}
        if kind == "corrupt" and body:
            body = body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]
        if kind == "short":
            body = body[: fault.after] if fault is not None else body
        if kind == "drop-header" and fault is not None:
            headers.pop(fault.header, None)
        wanted = handler.headers.get("Range")
        if wanted and handler.headers.get("If-Range", headers.get("ETag")) != headers.get("ETag") and kind != "ignore-if-range":
            wanted = None
        if wanted and answer.ranges and status == 200 and kind != "ignore-range":
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(body), len(body))
            if start >= len(body):
                status, headers["Content-Range"], body = 416, f"bytes */{len(body)}", b""
            else:
                status, headers["Content-Range"], body = 206, f"bytes {start}-{stop - 1}/{len(body)}", body[start:stop]
        try:
            handler.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                handler.send_header(name, value)
            if answer.ranges:
                handler.send_header("Accept-Ranges", "bytes")
            if "Content-Length" not in headers:
                handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            if handler.command == "HEAD":
                return
            if fault is not None and kind in ("cut", "reset", "stall"):
                handler.wfile.write(body[: fault.after])
                handler.wfile.flush()
                if kind == "stall":
                    time.sleep(fault.seconds)
                if kind == "reset":
                    self._reset(handler)
                handler.close_connection = True
                return
            for start in range(0, len(body), _PIECE):
                if fault is not None and kind == "slow":
                    time.sleep(fault.seconds)
                handler.wfile.write(body[start : start + _PIECE])
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    @staticmethod
    def _reset(handler: BaseHTTPRequestHandler) -> None:
        """Close the connection so that the other side gets a TCP reset."""
        handler.close_connection = True
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The socket is only closed when the last handle to it is: the two files over it are handles too.
        handler.wfile.close()
        handler.rfile.close()
        handler.connection.close()
