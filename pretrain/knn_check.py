"""The online kNN check: what the backbone is worth while it trains."""

from __future__ import annotations

import torch
from torch import nn

from pretrain.settings import Recipe
from zoo.data import Data, Images


class KnnCheck:
    pass
