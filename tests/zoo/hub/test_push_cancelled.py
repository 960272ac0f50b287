"""A push that is cancelled, or whose time is up, ends: no commit comes later, and the last sentence says which one stands."""

from __future__ import annotations

import os
import random
import re
import signal
import time

import psutil
import pytest
from hub_typed import ALICE, content, refused

COMMIT = re.compile(r"[0-9a-f]{40}")


def seen(hub, *routes: str) -> bool:
    return any(request.route in routes for request in list(hub.seen))


def wait_for(hub, route: str) -> None:
    end = time.monotonic() + 30
    while not seen(hub, route):
        assert time.monotonic() < end, hub.routes_since()
        time.sleep(0.02)


def settled(hub, name: str, seconds: float) -> list[str]:
    """The commits of the repository but for its first, after a while in which a client or a server that goes on makes one."""
    time.sleep(seconds)
    repository = hub.store.repositories.get(name)
    return [] if repository is None else list(repository.commits)[1:]


def cancel(hub, commands, model, name: str, route: str, *signals: int):
    """Push, send the signals once the route was asked for, and see that what sends has ended as well."""
    pid = commands.start("push", model, name, token=ALICE)
    wait_for(hub, route)
    senders = psutil.Process(pid).children()
    assert senders or route == "info"
    for number in signals:
        os.kill(pid, number)
        time.sleep(0.3)
    done = commands.wait(pid)
    _, alive = psutil.wait_procs(senders, timeout=5)
    assert alive == []
    return done


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_cancelled_during_the_upload(hub, commands, model, make_model, number, status):
    name = f"alice/upload{status}"
    old = hub.store.publish(name, content(model))
    hub.fail("cdn-upload", "hang", seconds=30)
    started = time.monotonic()
    done = cancel(hub, commands, make_model(seed=100 + status), name, "cdn-upload", number)
    assert time.monotonic() - started < 20
    assert (done.status, done.out) == (status, "")
    assert done.err.splitlines()[-1] == f"cancelled: nothing was pushed: '{name}' stands at commit {old}, as before"
    assert settled(hub, name, 0) == [old]
    assert not seen(hub, "commit")


def test_a_commit_that_is_on_its_way_is_waited_for_and_announced(hub, commands, model, make_model):
    name = "alice/underway"
    old = hub.store.publish(name, content(model))
    hub.fail("commit", "hang", seconds=4)
    done = cancel(hub, commands, make_model(seed=101), name, "commit", signal.SIGINT)
    _, new = settled(hub, name, 0)
    assert done.status == 130
    assert done.err.splitlines()[-1] == f"cancelled: '{name}' stands at commit {new}, which was not compared or not wholly"
    assert new == hub.store.repositories[name].branches["main"] != old


def test_a_second_signal_does_not_wait_and_says_what_may_come(hub, commands, model, make_model):
    name = "alice/twice"
    old = hub.store.publish(name, content(model))
    hub.fail("commit", "hang", seconds=5)
    done = cancel(hub, commands, make_model(seed=102), name, "commit", signal.SIGINT, signal.SIGINT)
    assert done.status == 130
    assert done.err.splitlines()[-1] == (
        f"cancelled: nothing was pushed: '{name}' stands at commit {old}, as before; a request of this push has gone out unanswered, and "
        "the Hub may still carry it out: look before you push again"
    )
    assert len(settled(hub, name, 6)) == 2, "the server did carry it out"


def test_a_new_repository_stays_empty(hub, commands, make_model):
    name = "alice/empty"
    hub.fail("cdn-upload", "hang", seconds=30)
    done = cancel(hub, commands, make_model(seed=103), name, "cdn-upload", signal.SIGTERM)
    assert settled(hub, name, 0) == []
    (first,) = hub.store.repositories[name].commits
    assert done.err.splitlines()[-1] == f"cancelled: nothing was pushed: '{name}' stands at commit {first}, new and empty"


def test_before_anything_is_sent(hub, commands, model):
    hub.fail("info", "hang", seconds=2)
    done = cancel(hub, commands, model, "alice/early", "info", signal.SIGINT)
    assert (done.status, done.err) == (130, "cancelled: nothing had been sent, and the Hub is as it was\n")
    assert settled(hub, "alice/early", 1) == []


def test_time_is_up_during_the_upload(hub, commands, model, make_model):
    name = "alice/late"
    old = hub.store.publish(name, content(model))
    hub.fail("cdn-upload", "hang", seconds=30)
    pid = commands.start("push", make_model(seed=104), name, "--deadline", "5", token=ALICE)
    wait_for(hub, "cdn-upload")
    senders = psutil.Process(pid).children()
    done = commands.wait(pid)
    assert senders
    assert psutil.wait_procs(senders, timeout=5)[1] == []
    refused(done, rf"not done within 5 seconds, so it was given up: nothing was pushed: '{name}' stands at commit {old}, as before; give a")
    assert settled(hub, name, 0) == [old]


def test_time_is_up_after_the_commit(hub, commands, model, make_model):
    name = "alice/compared"
    old = hub.store.publish(name, content(model))
    # The listing of the new commit.
    hub.fail("info", "hang", seconds=6, match="revision/(?!main)")
    done = commands.zoo("push", make_model(seed=105), name, "--deadline", "5", token=ALICE)
    refused(done, rf"given up: '{name}' stands at commit {hub.store.repositories[name].branches['main']}, which was not compared")
    assert hub.store.repositories[name].branches["main"] != old


def test_what_sends_ends_with_the_process_that_started_it(hub, commands, model, make_model):
    name = "alice/sender-killed"
    old = hub.store.publish(name, content(model))
    hub.fail("cdn-upload", "hang", seconds=30)
    assert cancel(hub, commands, make_model(seed=106), name, "cdn-upload", signal.SIGKILL).status == -9
    assert settled(hub, name, 0) == [old]


@pytest.mark.slow
def test_ten_random_moments(hub, commands, model, make_model):
    draw = random.Random(17)
    for route in ("info", "create", "preupload", "lfs-batch", "cdn-upload", "lfs-verify", "commit"):
        hub.fail(route, "hang", seconds=0.3, times=10_000)
    ended, longest = [], 0.0
    for number in range(11):
        name, folder = f"alice/random{number}", make_model(seed=200 + number)
        known = {hub.store.publish(name, content(model))} if number % 2 else set()
        started, before = time.monotonic(), len(hub.seen)
        pid = commands.start("push", folder, name, token=ALICE)
        if number == 0:
            # How long it takes when it is left alone.
            assert commands.wait(pid).status == 0
            longest = time.monotonic() - started
            continue
        time.sleep(draw.uniform(0, longest))
        os.kill(pid, draw.choice([signal.SIGINT, signal.SIGTERM]))
        ended.append((name, known, commands.wait(pid), {request.route for request in list(hub.seen)[before:]}))
    # A client that went on would be through by then.
    time.sleep(3 * longest)
    for name, known, done, routes in ended:
        made = set(settled(hub, name, 0)) - known
        said = done.out if done.status == 0 else (done.err.splitlines() or [""])[-1]
        if done.status == 0:
            assert hub.store.repositories[name].branches["main"] in said
            continue
        if not said.startswith("cancelled: "):
            # A signal before anything was sent may end the process as signals do.
            assert done.status in (130, 143, -2, -15), done
            assert not made
            assert not routes & {"create", "commit"}
            continue
        assert done.status in (130, 143), done
        if "nothing had been sent" in said or "there is no repository" in said:
            assert not made
            continue
        standing = hub.store.repositories[name].branches["main"]
        assert COMMIT.findall(said) == [standing], (said, made)
        title = hub.store.repositories[name].commits[standing].title
        assert ("nothing was pushed" in said) == (standing in known or not title.startswith("Publish")), (said, title)
