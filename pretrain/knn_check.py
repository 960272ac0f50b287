"""The online kNN check: what the backbone is worth while it trains."""

from __future__ import annotations


class KnnCheck:
    pass
