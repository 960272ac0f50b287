"""A Hub on the loopback, and commands that use it through the real client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hub_server import HubServer
from hub_server.commands import Commands


@pytest.fixture(scope="session")
def server() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture(scope="session")
def commands(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with Commands(tmp_path_factory.mktemp("home"), server.url) as started:
        yield started


@pytest.fixture
def hub(server: HubServer) -> HubServer:
    """The Hub without faults and with a fresh record; each test has repositories of its own, so that no cache knows them."""
    server.renew()
    server.faults.clear()
    server.seen.clear()
    return server
