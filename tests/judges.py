"""A server on 127.0.0.1 that speaks the chat-completions API, with judges of several characters."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes | Iterable[bytes]]
"""Status, headers and body; a body in parts needs its Content-Length among the headers."""
Judge = Callable[["JudgeServer", dict[str, Any]], Reply | None]
"""The request's body -> status, headers and body; None: the connection is closed without an answer."""


class JudgeServer(ThreadingHTTPServer):
    """``asked``: bodies of all requests; ``keys``: their Authorization headers; ``times``: when they came."""

    daemon_threads = True

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that who asked has given up are no error of ours."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.asked.append(body | {"path": self.path})
            server.keys.append(self.headers["Authorization"])
            server.times.append(time.monotonic())
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            reply = server.judge(server, body)
        finally:
            with server.lock:
                server.at_once -= 1
        if reply is None:
            self.close_connection = True
            return
        status, headers, content = reply
        self.send_response(status)
        length = {"Content-Length": str(len(content))} if isinstance(content, bytes) else {}
        for name, value in (length | headers).items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):  # who asked may have given up
            for part in [content] if isinstance(content, bytes) else content:
                self.wfile.write(part)

    def log_message(self, *arguments: object) -> None:
        pass


def completion(text: str | None, *, finish: str | None = "stop", tokens: tuple[int, int] | None = (100, 10)) -> Reply:
    """A well-formed answer."""
    tree: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}
    if tokens:
        tree["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return 200, {}, json.dumps(tree).encode()


def failure(status: int, message: str, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps({"error": {"message": message, "code": "some_code"}}).encode()


def answers_of(body: dict[str, Any]) -> list[str]:
    """The answers that a question is about, in the order in which they are shown."""
    question = next(message["content"] for message in body["messages"] if message["role"] == "user")
    return re.findall(r"===== answer(?: [AB])? \w+\n(.*?)(?=\n=====)", question, re.DOTALL)


def fair(server: JudgeServer, body: dict[str, Any]) -> Reply:
    """Prefers the answer with more exclamation marks; scores by their number."""
    del server
    counts = [text.count("!") for text in answers_of(body)]
    if len(counts) == 1:
        return completion(f"It is lively.\nSCORE: {min(10, 1 + counts[0])}")
    verdict = "TIE" if counts[0] == counts[1] else "A" if counts[0] > counts[1] else "B"
    return completion(f"Marks were counted.\n\nVERDICT: {verdict}\n")


def first(server: JudgeServer, body: dict[str, Any]) -> Reply:
    """Always prefers what is shown first."""
    del server, body
    return completion("VERDICT: A")


@contextmanager
def judging(judge: Judge = fair) -> Iterator[JudgeServer]:
    """A server with this judge."""
    server = JudgeServer(judge)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
