"""Alerts as a POST of JSON to a URL."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from deepblur_live.session.sinks.base import AlertNotice, AlertSink, NoticeKind

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WebhookSink"]

_TOO_MANY_REQUESTS = 429


class _NoRedirect(HTTPRedirectHandler):
    """Refuses redirects: they would turn the POST into an empty GET."""

    def redirect_request(self, *_: Any) -> None:
        """Return None: the response becomes an error."""


class WebhookSink(AlertSink):
    """Posts each notice as JSON; chat services show its ``text``.

    Failed connections, time-outs and the status codes 5xx and 429 are retried; other
    codes are final. Proxies of the environment are used.

    Parameters
    ----------
    url
        ``http`` or ``https``.
    timeout_s
        For each step of an attempt: connect, send, each part of the response.
    pauses_s
        Seconds before each retry; their number limits the retries.

    Raises
    ------
    ValueError
        The URL cannot be posted to.
    """

    kinds = frozenset(NoticeKind)

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        pauses_s: Sequence[float] = (1.0, 4.0, 15.0),
    ) -> None:
        try:
            parts = urlsplit(url)
            port = f":{parts.port}" if parts.port else ""
        except ValueError as error:
            raise ValueError(f"{url}: {error}") from error
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                f"webhook:{parts.hostname}: the URL must not contain a user name or "
                "password"
            )
        spaced = any(sign.isspace() for sign in url)
        if parts.scheme not in ("http", "https") or not parts.hostname or spaced:
            raise ValueError(f"{url}: must be http://HOST/… or https://HOST/…")
        self._url = url
        # The path of a URL is often a secret; the host is enough to identify it.
        self.name = f"webhook:{parts.hostname}{port}"
        self._timeout_s = timeout_s
        self._pauses_s = tuple(pauses_s)
        self._closing = threading.Event()
        self._opener = build_opener(_NoRedirect)

    def deliver(self, notice: AlertNotice) -> None:
        """Post it.

        Raises
        ------
        OSError
            It was refused, or no attempt succeeded; the message says why.
        """
        body = json.dumps(notice.record(), allow_nan=False).encode()
        attempts = 0
        while True:
            attempts += 1
            failure, again = self._post(body)
            if not failure:
                return
            if not again or attempts > len(self._pauses_s):
                times = "once" if attempts == 1 else f"{attempts} times"
                raise OSError(f"{failure} (tried {times})")
            if self._closing.wait(self._pauses_s[attempts - 1]):
                raise OSError(f"{failure} (given up: the session has ended)")

    def close(self) -> None:
        """Make no further attempt."""
        self._closing.set()

    def _post(self, body: bytes) -> tuple[str, bool]:
        """Return why it failed, or nothing; and whether to retry."""
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "deepblur-live",
        }
        request = Request(self._url, data=body, headers=headers, method="POST")
        try:
            # The body of the response does not matter, and may be endless.
            self._opener.open(request, timeout=self._timeout_s).close()
        except HTTPError as error:
            error.close()
            again = error.code >= 500 or error.code == _TOO_MANY_REQUESTS
            return f"HTTP status {error.code} {error.reason}", again
        except URLError as error:
            return f"not reached: {error.reason}", True
        except TimeoutError:
            return f"no response within {self._timeout_s:g} s", True
        except http.client.HTTPException as error:
            # Its text may contain the URL.
            return f"the connection broke: {type(error).__name__}", True
        except OSError as error:
            return f"the connection broke: {error!r}", True
        return "", False
