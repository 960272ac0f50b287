"""Downloads from an author's site, over real HTTP: resumed, checked, never half a file, each failure its own sentence."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hub_server import HubServer, sha256

import zoo.hub.retries
from zoo.errors import UserError
from zoo.hub.fetch import fetch, seconds_asked
from zoo.hub.pins import Pins

CONTENT = bytes(range(256)) * 4096  # 1 MiB
OTHER = CONTENT[:-1] + b"\x00"


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture
def hub(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "zoo"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(zoo.hub.retries, "WAITS", (0.01,) * 4)
    server.faults.clear()
    server.seen.clear()
    server.files["weights.pth"] = CONTENT
    return server


@pytest.fixture
def url(hub: HubServer) -> str:
    return f"{hub.url}/files/weights.pth"


def gets(hub: HubServer) -> int:
    return sum(seen.route == "file" for seen in hub.seen)


def left_over(path: Path) -> list[str]:
    return sorted(other.name for other in path.parent.iterdir() if other.name != path.name and not other.name.endswith(".lock"))


def test_a_file_is_downloaded_once_and_checked_each_time(hub, url, tmp_path):
    path = fetch(url)
    assert path.name == "weights.pth"
    assert path.is_relative_to(tmp_path / "zoo" / "downloads")
    assert path.read_bytes() == CONTENT
    assert fetch(url, sha256=sha256(CONTENT)) == fetch(url, sha256=sha256(CONTENT)[:8], md5=hashlib.md5(CONTENT).hexdigest()[:8]) == path
    assert gets(hub) == 1
    assert left_over(path) == []
    assert Pins().get(url).files["weights.pth"].sha256 == sha256(CONTENT)


@pytest.mark.parametrize(
    ("there", "here"), [("a%20b.pth", "a_b.pth"), ("..%2F..%2Fevil.pth", "_.._evil.pth"), (".hidden", "hidden"), ("..", "127.0.0.1")]
)
def test_names_that_no_file_should_have(hub, there, here):
    hub.files[unquote(there)] = CONTENT
    path = fetch(f"{hub.url}/files/{there}")
    assert path.name == here
    assert path.read_bytes() == CONTENT


def test_a_folder_of_the_callers(url, tmp_path):
    assert fetch(url, folder=tmp_path / "here") == tmp_path / "here" / "weights.pth"


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_broken_connection_goes_on_where_it_broke(hub, url, kind):
    hub.fail("file", kind, after=700_000)
    hub.fail("file", kind, after=200_000)
    assert fetch(url).read_bytes() == CONTENT
    assert gets(hub) == 3


def test_the_next_call_goes_on_where_the_last_one_gave_up(hub, url):
    hub.fail("file", "cut", after=600_000)
    hub.fail("file", times=4)
    with pytest.raises(UserError, match=r"the server has trouble; try again later \(HTTP status 503\)"):
        fetch(url)
    hub.seen.clear()
    hub.fail("file", "cut", after=1)  # of the rest
    assert fetch(url).read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_starts_over(hub, url):
    hub.fail("file", "cut", after=600_000)
    hub.fail("file", "ignore-range")
    assert fetch(url).read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["", "ignore-if-range"])
def test_a_file_that_was_exchanged_in_between_is_not_pieced_together(hub, url, kind):
    hub.fail("file", "cut", after=600_000)
    hub.fail("file", times=4)
    with pytest.raises(UserError):
        fetch(url)
    hub.files["weights.pth"] = OTHER[::-1]
    hub.fail("file", kind)
    assert fetch(url).read_bytes() == OTHER[::-1]
    hub.files["longer"] = CONTENT
    longer = f"{hub.url}/files/longer"
    hub.fail("file", "cut", after=600_000)
    hub.fail("file", times=4)
    with pytest.raises(UserError):
        fetch(longer)
    hub.files["longer"] = CONTENT[:1000]
    hub.fail("file", kind)  # and so the range cannot be had
    assert fetch(longer).read_bytes() == CONTENT[:1000]


def test_wrong_bytes_are_downloaded_once_more_and_then_refused(hub, url):
    hub.fail("file", "corrupt")
    assert fetch(url, sha256=sha256(CONTENT)).read_bytes() == CONTENT
    assert gets(hub) == 2
    path = fetch(url)
    path.unlink()
    hub.fail("file", "corrupt", times=2)
    with pytest.raises(UserError, match=rf"is not the file that its authors describe \(sha256 [0-9a-f]{{64}}, not {sha256(CONTENT)}, also"):
        fetch(url, sha256=sha256(CONTENT))
    assert not path.exists()
    assert left_over(path) == []
    with pytest.raises(UserError, match=r"is not the file that its authors describe \(md5 [0-9a-f]{32}, not deadbeef, also"):
        fetch(url, md5="deadbeef")


def test_a_change_after_the_first_use_is_refused_with_both_hashes(hub, url):
    path = fetch(url)
    path.unlink()
    hub.files["weights.pth"] = OTHER
    with pytest.raises(UserError, match=rf"when it was first fetched \(sha256 {sha256(OTHER)}, not {sha256(CONTENT)}.*--update accepts"):
        fetch(url)
    assert fetch(url, update=True).read_bytes() == OTHER
    assert fetch(url, offline=True).read_bytes() == OTHER
    with pytest.raises(UserError, match=f"should have sha256 {sha256(CONTENT)}, but when it was first fetched it had {sha256(OTHER)}"):
        fetch(url, sha256=sha256(CONTENT))


def test_bit_rot_is_repaired_with_network_and_refused_without(hub, url):
    path = fetch(url)
    path.write_bytes(OTHER)
    seen = gets(hub)
    with pytest.raises(UserError, match=r"is damaged \(sha256 .*; fetch it again with network"):
        fetch(url, offline=True)
    assert gets(hub) == seen
    assert fetch(url).read_bytes() == CONTENT


def test_without_network_nothing_is_asked(hub, url):
    with pytest.raises(UserError, match="was not downloaded before, and no network may be used"):
        fetch(url, offline=True)
    assert hub.seen == []


def test_a_web_page_is_no_file(hub, url):
    hub.fail("file", "html")
    with pytest.raises(UserError, match="does not give a file: it is a web page"):
        fetch(url)
    path = fetch(url)
    assert path.read_bytes() == CONTENT
    assert left_over(path) == []


@pytest.mark.parametrize(
    ("status", "why"), [(401, "it wants a log-in"), (403, "it is forbidden"), (404, "there is no such file"), (410, "taken away")]
)
def test_a_refusal_is_final(hub, url, status, why):
    hub.fail("file", status=status, times=9)
    with pytest.raises(UserError, match=rf"cannot be downloaded: .*{why}.* \(HTTP status {status}\)"):
        fetch(url)
    assert gets(hub) == 1


def test_a_busy_server_is_waited_for_but_not_beyond_the_deadline(hub, url):
    hub.fail("file", status=429, headers={"Retry-After": "0"})
    hub.fail("file", status=503)
    assert fetch(url).read_bytes() == CONTENT
    os.unlink(fetch(url))
    hub.fail("file", status=429, headers={"Retry-After": "3600"}, times=9)
    seen = gets(hub)
    with pytest.raises(UserError, match="too many requests came from here"):
        fetch(url)
    assert gets(hub) == seen + 1


@pytest.mark.parametrize("kind", ["stall", "slow"])
def test_the_deadline_ends_what_does_not_end(hub, url, kind):
    hub.fail("file", kind, after=1000, seconds=0.25, times=9)
    with pytest.raises(UserError, match=r"was not done within 0\.5 seconds"):
        fetch(url, deadline=0.5)
    hub.faults.clear()
    assert fetch(url).read_bytes() == CONTENT


def test_no_server_no_host_no_address(tmp_path, hub):
    with pytest.raises(UserError, match=r"127\.0\.0\.1 cannot be reached \(Connection refused\)"):
        fetch("http://127.0.0.1:9/weights.pth")
    for wrong in ("weights.pth", "file:///etc/passwd", "https://"):
        with pytest.raises(UserError, match="is not an address to download from"):
            fetch(wrong)
    with pytest.raises(UserError, match="'xyz' is no sha256"):
        fetch(f"{hub.url}/files/weights.pth", sha256="xyz")
    with pytest.raises(UserError, match="the deadline must be a positive number"):
        fetch(f"{hub.url}/files/weights.pth", deadline=0)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        fetch(f"{hub.url}/files/weights.pth", folder=tmp_path / "file" / "folder")


def test_two_processes_download_once(hub, url):
    hub.fail("file", "slow", seconds=0.02)
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        first, second = pool.map(fetch, [url, url])
    assert first == second
    assert first.read_bytes() == CONTENT
    assert gets(hub) == 1


def test_waits_that_servers_ask_for():
    assert seconds_asked("7") == 7
    assert seconds_asked("Fri, 31 Dec 2100 23:59:59 GMT") > 1e9
    assert seconds_asked("soon") is None
    assert seconds_asked(None) is None
