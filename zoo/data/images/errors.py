"""The one error of reading an image."""

from __future__ import annotations


class BadImageError(Exception):
    """An image that cannot be read, or not without being told how; the text says why, without a full stop."""
