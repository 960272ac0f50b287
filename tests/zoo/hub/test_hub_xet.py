"""Push and pull with hf-xet, the Hub's own storage protocol, which reads and writes a local folder here."""

from __future__ import annotations

import pytest
from hub_server import HubServer
from hub_server.commands import Commands
from hub_typed import ALICE, WEIGHTS, content, pulled, refused

pytest.importorskip("hf_xet", reason="the Hub's client works without hf-xet where there is no wheel of it")


def test_push_pull_bit_rot_and_wrong_bytes_by_xet(model, other_model, tmp_path):
    (tmp_path / "xet").mkdir()
    home = tmp_path / "home"
    with (
        HubServer(xet_folder=tmp_path / "xet") as hub,
        Commands(home, hub.url, HF_HUB_DISABLE_XET="0", HF_XET_CACHE=str(home / "xet-cache")) as commands,
    ):
        done = commands.zoo("push", model, "alice/xet", token=ALICE)
        assert done.status == 0, done.err
        assert "GET xet-token" in hub.routes_since()
        assert "PUT cdn-upload" not in hub.routes_since()
        assert hub.store.repositories["alice/xet"].resolve("main").files[WEIGHTS].xet_hash

        fresh = Commands(
            tmp_path / "other", hub.url, networks=False, HF_HUB_DISABLE_XET="0", HF_XET_CACHE=str(tmp_path / "other" / "xet-cache")
        )
        with fresh:
            hub.seen.clear()
            folder = pulled(fresh.zoo("pull", "alice/xet"))
            assert content(folder) == content(model)
            assert "GET cdn" not in hub.routes_since()
            blob = (folder / WEIGHTS).resolve()
            blob.write_bytes(content(other_model)[WEIGHTS])
            refused(fresh.zoo("pull", "alice/xet", "--offline"), "is damaged in the cache")
            assert content(pulled(fresh.zoo("pull", "alice/xet"))) == content(model)
            assert content(pulled(fresh.zoo("pull", "alice/xet", "--out", tmp_path / "copy"))) == content(model)

            # Right length, wrong bytes: the listing says one file, its Xet hash leads to another.
            hub.store.publish("alice/xet2", content(other_model))
            other = hub.store.repositories["alice/xet2"].resolve("main").files[WEIGHTS]
            object.__setattr__(other, "xet_hash", hub.store.repositories["alice/xet"].resolve("main").files[WEIGHTS].xet_hash)
            refused(fresh.zoo("pull", "alice/xet2"), r"model\.safetensors of 'alice/xet2' .* has the wrong bytes")
