"""What a model is: backbones, zoo models, data sets, results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy_names

if TYPE_CHECKING:
    from zoo.hub.pull import pull
    from zoo.hub.push import push
    from zoo.model_spec import load, open_model
    from zoo.verbs import info, list

_HOMES = {"info": "verbs", "list": "verbs", "load": "model_spec", "open_model": "model_spec", "pull": "hub.pull", "push": "hub.push"}

__all__ = ["info", "list", "load", "open_model", "pull", "push"]

__getattr__ = lazy_names(__name__, _HOMES)
