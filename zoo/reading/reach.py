"""Whether a host can be reached, found out before a library asks it again and again."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from zoo.errors import first_line


def why_away(url: str, seconds: float = 5.0) -> str | None:
    """Why the host of ``url`` cannot be reached, found by one connection; None where it answers, or where a proxy stands between.

    The Hub's client asks a host that is away for three quarters of a minute.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return None
    try:
        with socket.create_connection((host, parts.port or (80 if parts.scheme == "http" else 443)), timeout=seconds):
            return None
    except OSError as error:
        return f"{host}: {error.strerror or first_line(error)}"
