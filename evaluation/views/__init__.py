"""Views: what a method sees of an image. Crops are boxes first (samplers), pixels second (resamplers); colours come last.

One page on all of it: ``docs/views.md``. :class:`ContrastiveCrop` is the transform for loops other than this package's.
"""

from evaluation.views.order import epoch_order
from evaluation.views.settings import ViewSettings, ViewSpec
from evaluation.views.source import Batch, ViewSource
from evaluation.views.transforms import ContrastiveCrop

__all__ = ["Batch", "ContrastiveCrop", "ViewSettings", "ViewSource", "ViewSpec", "epoch_order"]
