"""The webhook against a real server that accepts, refuses and hangs."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deepblur_live.session.sinks import AlertDispatcher, WebhookSink


class Server(ThreadingHTTPServer):
    """Responds with the codes it is given, the last one repeatedly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.codes = [204]
        self.got: list[dict] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?key=secret"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"].startswith("application/json")
        self.server.got.append(json.loads(body))
        codes = self.server.codes
        code = codes.pop(0) if len(codes) > 1 else codes[0]
        if code == 0:  # hangs
            self.server.released.wait(20)
            return
        self.send_response(code)
        if code == 302:
            self.send_header("Location", self.server.url)
        self.end_headers()

    def do_GET(self) -> None:
        raise AssertionError("a redirect was followed")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join(10)
    server.server_close()


def sink_to(server, **options) -> WebhookSink:
    options = {"timeout_s": 5.0, "pauses_s": (0.0, 0.0), **options}
    return WebhookSink(server.url, **options)


def test_posts_json_that_chat_services_show(server, make_notice):
    sink_to(server).deliver(make_notice())
    assert server.got == [make_notice().record()]
    assert server.got[0]["text"].startswith("rig 3: ALARM")


def test_retries_while_the_server_fails(server, make_notice):
    server.codes = [500, 503, 200]
    sink_to(server).deliver(make_notice())
    assert len(server.got) == 3


def test_gives_up_after_its_retries(server, make_notice):
    server.codes = [500]
    with pytest.raises(OSError, match=r"HTTP status 500 .*\(tried 3 times\)"):
        sink_to(server).deliver(make_notice())
    assert len(server.got) == 3


@pytest.mark.parametrize("code", [404, 302])
def test_a_refusal_is_final_and_redirects_are_not_followed(server, make_notice, code):
    server.codes = [code]
    with pytest.raises(OSError, match=rf"HTTP status {code} .*\(tried once\)"):
        sink_to(server).deliver(make_notice())
    assert len(server.got) == 1


def test_a_server_that_hangs_is_left_after_its_timeout(server, make_notice):
    server.codes = [0]
    sink = sink_to(server, timeout_s=0.2, pauses_s=())
    with pytest.raises(OSError, match=r"no response within 0\.2 s|timed out"):
        sink.deliver(make_notice())


def test_a_server_that_cannot_be_reached_is_an_error(make_notice):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sink = WebhookSink(f"http://127.0.0.1:{port}", pauses_s=(0.0,))
    with pytest.raises(OSError, match=r"not reached: .*\(tried 2 times\)"):
        sink.deliver(make_notice())


def test_the_session_does_not_end_later_for_a_server_that_hangs(server, make_notice):
    server.codes = [0]
    errors: list[str] = []
    reported = threading.Event()

    def report(text: str) -> None:
        errors.append(text)
        reported.set()

    sink = sink_to(server, timeout_s=0.2, pauses_s=(3600.0,))
    dispatcher = AlertDispatcher([sink], report)
    dispatcher.send(make_notice())
    # It waits an hour before its next attempt; the end interrupts that.
    dispatcher.close(timeout=0.5)
    assert reported.wait(10)
    (now,) = dispatcher.statistics
    assert (now.failed, now.waiting) == (1, 0)
    assert "the session has ended" in now.last_error
    # The URL may contain a key: it is not reported.
    assert now.name == f"webhook:127.0.0.1:{server.server_port}"
    assert not any("secret" in error for error in errors)


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "file:///etc/passwd", "host/x", "http://", "http://h:port/"]
)
def test_other_addresses_are_refused(url):
    with pytest.raises(ValueError, match=r"must be http|[Pp]ort"):
        WebhookSink(url)
