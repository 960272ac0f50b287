"""Push, pull and load against a Hub that is named by the environment: for a person with network and a token that may write.

    ZOO_TEST_HUB=my-name HF_TOKEN=... python -m pytest -m slow tests/zoo/hub/test_hub_live.py

It makes a private repository under that name, and deletes it.
"""

from __future__ import annotations

import os
import uuid

import pytest
from hub_typed import content

from zoo.hashing import tensors_sha256

OWNER = os.environ.get("ZOO_TEST_HUB")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(OWNER is None, reason="ZOO_TEST_HUB names no account on the Hub")]


def test_a_model_goes_to_the_hub_and_comes_back(make_model, tmp_path, monkeypatch):
    from huggingface_hub import HfApi

    import zoo
    from zoo.errors import UserError
    from zoo.hub.pull import pull
    from zoo.hub.push import push

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "zoo"))
    name = f"{OWNER}/zoo-test-{uuid.uuid4().hex[:8]}"
    first, second = make_model(licence="MIT"), make_model(seed=1, licence="MIT")
    try:
        old = push(first, name, private=True)
        pulled = pull(name, out=tmp_path / "first")
        assert pulled.commit == old.commit
        assert content(tmp_path / "first") == content(first)
        assert tensors_sha256(zoo.load(f"hub:{name}").state_dict()) == tensors_sha256(zoo.load(str(first)).state_dict())
        push(second, name)
        with pytest.raises(UserError, match=f"it was commit {old.commit} and is "):
            pull(name)
        assert content(pull(f"{name}@{old.commit}", out=tmp_path / "old").folder) == content(first)
        assert content(pull(name, update=True, out=tmp_path / "second").folder) == content(second)
        assert pull(name, offline=True).sha256 != pulled.sha256
    finally:
        HfApi().delete_repo(name, missing_ok=True)
