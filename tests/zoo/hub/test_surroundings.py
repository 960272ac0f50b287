"""What keeps a transfer from working is found before it, and the variable that is to blame is named."""

from __future__ import annotations

import os
import sys

import pytest
from hub_typed import ALICE, content, pulled, refused

from zoo.errors import UserError
from zoo.hub.pins import FilePin, Pins
from zoo.hub.surroundings import check_download_settings, check_home, check_hub_settings

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch, tmp_path):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    for name in ("HF_TOKEN", "HF_ENDPOINT", "SSL_CERT_FILE", "SSL_CERT_DIR", "HF_TOKEN_PATH", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)


SETTINGS = {
    "no scheme": ("HF_ENDPOINT", "hub.example.org", r"^HF_ENDPOINT is 'hub.example.org', which is no address: it begins with https://"),
    "empty endpoint": ("HF_ENDPOINT", "", "^HF_ENDPOINT is ''"),
    "no host": ("HF_ENDPOINT", "https://", "^HF_ENDPOINT is 'https://'"),
    "no certificates": ("SSL_CERT_FILE", "/nowhere/ca.pem", "^SSL_CERT_FILE is '/nowhere/ca.pem', and there is no such file"),
    "no folder of them": ("SSL_CERT_DIR", "/nowhere/ca", "^SSL_CERT_DIR is '/nowhere/ca', and there is no such folder"),
    "other certificates": ("SSL_CERT_FILE", __file__, "^SSL_CERT_FILE is .* which holds no certificates that can be read"),
    "umlaut": ("HF_TOKEN", "hf_geheimnü", "^HF_TOKEN has the character 'ü', which no token has"),
    "a line in it": ("HF_TOKEN", "hf_a\nhf_b", r"^HF_TOKEN has the character '\\n'"),
    "socks": ("HTTPS_PROXY", "socks5://user:geheim@proxy:1080", r"^HTTPS_PROXY names a SOCKS proxy \(socks5://...\), .*socksio"),
    "small letters": ("all_proxy", "socks5h://proxy:1080", "^all_proxy names a SOCKS proxy"),
    "another scheme": ("HTTP_PROXY", "ftp://proxy", "^HTTP_PROXY names a proxy by 'ftp://', which is none that is known"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_of_the_hubs_client(monkeypatch, case):
    variable, value, sentence = SETTINGS[case]
    monkeypatch.setitem(sys.modules, "socksio", None)  # as where it is not installed, which is usual
    check_hub_settings()
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=sentence) as told:
        check_hub_settings()
    assert "geheim" not in str(told.value)


def test_what_is_in_order_passes(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:8000/")
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example.org:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://user:word@proxy.example.org:3128")
    monkeypatch.setenv("HF_TOKEN", " hf_abc \n")
    check_hub_settings()
    check_download_settings("example.org")


def test_the_token_of_the_log_in(monkeypatch, tmp_path):
    (tmp_path / "huggingface").mkdir()
    file = tmp_path / "huggingface" / "token"
    file.write_text("hf_geheimnö", encoding="utf-8")
    with pytest.raises(UserError, match=f"^{file} has the character 'ö'"):
        check_hub_settings()
    # The variable counts before it, as with the client.
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    check_hub_settings()


def test_downloads_know_no_socks(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy")
    with pytest.raises(UserError, match=r"^HTTPS_PROXY names a SOCKS proxy .*put weights\.example\.org into NO_PROXY"):
        check_download_settings("weights.example.org")
    monkeypatch.setenv("NO_PROXY", "weights.example.org")
    check_download_settings("weights.example.org")


@pytest.mark.parametrize("variable", ["ZOO_HOME", "XDG_CACHE_HOME", "HOME"])
def test_a_home_that_is_a_file(monkeypatch, tmp_path, variable):
    for name in ("ZOO_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv(variable, str(file))
    with pytest.raises(UserError, match=rf"a file, and must be a folder \({variable} says so\); ZOO_HOME moves it"):
        check_home()
    monkeypatch.setenv(variable, str(tmp_path / "new" / "folder"))
    check_home()
    assert not (tmp_path / "new").exists()


def test_the_commands_say_it_before_they_ask_anybody(hub, commands, model, tmp_path):
    hub.store.publish("zoo-lab/set", content(model))
    file = tmp_path / "file"
    file.write_text("")
    for environment, sentence in (
        ({"HF_ENDPOINT": hub.url.removeprefix("http://")}, "^error: HF_ENDPOINT is '127"),
        ({"SSL_CERT_FILE": "/nowhere"}, "^error: SSL_CERT_FILE is '/nowhere'"),
        ({"HF_TOKEN": "hf_ü"}, "^error: HF_TOKEN has the character 'ü'"),
    ):
        refused(commands.zoo("pull", "zoo-lab/set", **environment), sentence)
        refused(commands.zoo("push", model, "alice/set", **environment), sentence)
    refused(commands.zoo("pull", "zoo-lab/set", ZOO_HOME=str(file)), r"^error: .*file is a file, and must be a folder \(ZOO_HOME says so\)")
    assert hub.seen == []


def test_a_lock_file_that_cannot_be_written_is_found_before_the_transfer(hub, commands, model, tmp_path):
    hub.store.publish("zoo-lab/locked", content(model))
    (tmp_path / "zoo.lock.json.lock").mkdir()
    done = commands.zoo("pull", "zoo-lab/locked", ZOO_LOCK=str(tmp_path / "zoo.lock.json"))
    refused(done, r"zoo\.lock\.json\.lock is no ordinary file, and the lock file cannot be written; ZOO_LOCK names another")
    assert "GET resolve" not in hub.routes_since()
    assert "GET cdn" not in hub.routes_since()


def open_to_others(place) -> None:
    """Let another user write there; the folders of pytest are for their owner alone."""
    place.chmod(0o777)
    for folder in place.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_the_lock_file_of_another_user(commands, tmp_path):
    path = tmp_path / "zoo.lock.json"
    Pins(path).put("a/b@main", {"x": FilePin(1, "0" * 64)})
    assert (tmp_path / "zoo.lock.json.lock").is_file()
    open_to_others(tmp_path)
    program = (
        f"import os; from zoo.hub.pins import Pins; pins = Pins({str(path)!r}); os.setgid(65534); os.setuid(65534); pins.check_writable()"
    )
    refused(
        commands.python(program), r"zoo\.lock\.json\.lock: Permission denied, which belongs to root\); ZOO_LOCK or --lock names another"
    )


@pytest.mark.parametrize(("status", "why"), [(403, "the link has run out"), (404, "it does not have the file"), (503, "it has trouble")])
def test_a_refusal_of_the_store_is_not_said_of_the_repository(hub, commands, make_model, status, why):
    name = f"zoo-lab/store{status}"
    hub.store.publish(name, content(make_model(seed=300 + status)))
    hub.fail("cdn", status=status, times=99)
    store = hub.cdn.removeprefix("http://")
    for token in (None, ALICE):
        done = commands.zoo("pull", name, "--deadline", "4", token=token)
        refused(
            done, rf"'{name}' is there, but {store}, where {hub.url} keeps its large files, refused one \(HTTP status {status}\): {why}"
        )


def test_an_upload_that_the_store_refuses_is_not_said_of_the_token(hub, commands, make_model):
    hub.fail("cdn-upload", status=403, times=99)
    refused(commands.zoo("push", make_model(seed=310), "alice/store", token=ALICE), r"'alice/store' is there, but 127\.0\.0\.1:\d+, where")


@pytest.mark.parametrize("revision", ["v1.0+cu", "main@2", "feature/a,b"])
def test_unusual_revisions_and_names_are_pulled(hub, commands, model, revision):
    name = f"zoo-lab/rev{len(revision)}"
    commit = hub.store.publish(name, content(model))
    hub.store.repositories[name].tags[revision] = commit
    for text in (f"{name}@{revision}", f"hub:{name}@{revision}"):
        assert content(pulled(commands.zoo("pull", text))) == content(model)
    assert content(pulled(commands.zoo("pull", f"{hub.url}/{name}"))) == content(model)
    assert content(pulled(commands.zoo("pull", f"{hub.url}/{name}/tree/{revision}", "--offline"))) == content(model)


def test_weights_of_timm_that_cannot_be_had_name_the_variable_too(hub, commands):
    program = "from zoo.model_spec import open_model; open_model('timm:test_resnet')"
    refused(commands.python(program), "the weights of 'timm:test_resnet' cannot be loaded")
    # The client has read its address before; what is looked at is the variable.
    refused(commands.python(program, HF_ENDPOINT="hub.example.org"), "^error: HF_ENDPOINT is 'hub.example.org', which is no address")
    program = "from zoo.model_spec import open_model; open_model('timm:test_resnt')"
    refused(commands.python(program, HF_ENDPOINT="hub.example.org"), "timm has no network 'test_resnt'")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_download_beside_the_lock_of_another_user(hub, commands, tmp_path):
    hub.files["theirs.pth"] = b"x" * 1000
    (tmp_path / ".theirs.pth.lock").touch(mode=0o600)
    open_to_others(tmp_path)
    program = (
        "import os; from zoo.hub.fetch import fetch; from zoo.hub.pins import Pins; os.setgid(65534); os.setuid(65534); "
        f"fetch({hub.url + '/files/theirs.pth'!r}, folder={str(tmp_path)!r}, pins=Pins({str(tmp_path / 'lock.json')!r}))"
    )
    refused(commands.python(program), r"\.theirs\.pth\.lock cannot be written \(Permission denied\), which belongs to root")
    assert hub.seen == []
