"""Faults on demand: what goes wrong with which requests, and how often."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    route
        Name of the route that fails, as :data:`hub_server.routes.ROUTES` and the CDN call them.
    kind
        - ``"status"``: answer with ``status``; ``"lost"``: the same after doing what was asked
        - ``"cut"``: close after ``after`` bytes of the body; ``"reset"``: the same by a TCP reset
        - ``"corrupt"``: the right length with one byte flipped; ``"short"``: announce and send ``after`` bytes
        - ``"edit"``: put ``edit[1]`` in the place of ``edit[0]`` in the body; ``"html"``: a web page with status 200
        - ``"hang"``: ``seconds`` before anything is done; ``"slow"``: ``seconds`` before every 64 KiB; ``"stall"``: ``seconds`` of silence
          after ``after`` bytes
        - ``"ignore-range"``, ``"ignore-if-range"``: as some servers do
        - ``"drop-header"``: leave out the header ``header``
    match
        A regular expression that the path must contain.
    method
        None: any.
    times
        How many requests it hits.
    skip
        How many requests it lets pass before.
    """

    route: str
    kind: str = "status"
    match: str = ""
    method: str | None = None
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    after: int = 0
    seconds: float = 0.0
    header: str = ""
    edit: tuple[bytes, bytes] = (b"", b"")
    times: int = 1
    skip: int = 0

    def hits(self, route: str, method: str, path: str) -> bool:
        if self.times <= 0 or route != self.route or self.method not in (None, method) or not re.search(self.match, path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True
