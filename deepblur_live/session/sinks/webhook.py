"""Alerts as a POST of JSON to a web address."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from deepblur_live.session.sinks.notice import AlertNotice, NoticeKind, OnAlarm

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WebhookSink"]

_TOO_MANY_REQUESTS = 429


class _NoRedirect(HTTPRedirectHandler):
    """Refuses to be sent elsewhere: a POST would arrive there as an empty GET."""

    def redirect_request(self, *_: Any) -> None:
        """Return None: the answer becomes an error."""


class WebhookSink(OnAlarm):
    """Posts each notice as JSON; its ``text`` is what chat services show.

    A connection that fails, an answer of 5xx or 429, and silence are tried again; any
    other refusal is final. Proxies of the environment are used.

    Parameters
    ----------
    url
        ``http`` or ``https``.
    timeout_s
        For each step of a try: connect, send, each piece of the answer.
    pauses_s
        Seconds before each further try; their number bounds the tries.

    Raises
    ------
    ValueError
        The address is none that can be posted to.
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
                f"webhook:{parts.hostname}: no name or password may stand before it"
            )
        spaced = any(sign.isspace() for sign in url)
        if parts.scheme not in ("http", "https") or not parts.hostname or spaced:
            raise ValueError(f"{url}: must be http://HOST/… or https://HOST/…")
        self._url = url
        # An address often holds a secret; the host is enough to tell them apart.
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
            It was refused, or no try came through; the text says why.
        """
        body = json.dumps(notice.record(), allow_nan=False).encode()
        tries = 0
        while True:
            tries += 1
            failure, again = self._post(body)
            if not failure:
                return
            if not again or tries > len(self._pauses_s):
                times = "once" if tries == 1 else f"{tries} times"
                raise OSError(f"{failure} (tried {times})")
            if self._closing.wait(self._pauses_s[tries - 1]):
                raise OSError(f"{failure} (given up: the session has ended)")

    def close(self) -> None:
        """Try no further."""
        self._closing.set()

    def _post(self, body: bytes) -> tuple[str, bool]:
        """Return why it failed, or nothing; and whether to try again."""
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "deepblur-live",
        }
        request = Request(self._url, data=body, headers=headers, method="POST")
        try:
            # What is answered beside the status does not matter, and may be endless.
            self._opener.open(request, timeout=self._timeout_s).close()
        except HTTPError as error:
            error.close()
            again = error.code >= 500 or error.code == _TOO_MANY_REQUESTS
            return f"answered {error.code} {error.reason}", again
        except URLError as error:
            return f"not reached: {error.reason}", True
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s", True
        except http.client.HTTPException as error:
            # Its text may hold the address.
            return f"the connection broke: {type(error).__name__}", True
        except OSError as error:
            return f"the connection broke: {error!r}", True
        return "", False
