"""A server on the loopback that answers as the Hugging Face Hub does, as far as its client asks, and fails on demand.

It models the Hub from its client's source; nothing of it was compared with the live Hub. It takes no connection from elsewhere, keeps
everything in memory within fixed bounds, and stops by itself.
"""

from hub_server.faults import Fault
from hub_server.server import HubServer
from hub_server.store import Repository, Store, git_sha1, sha256

__all__ = ["Fault", "HubServer", "Repository", "Store", "git_sha1", "sha256"]
