"""The survey: now and then the network looks at the whole training set, and what it saw shapes the next epochs.

One page on it: ``docs/survey.md``.
"""

from pretrain.survey.boxes import BoxMaker, extract_boxes, heat_maps
from pretrain.survey.encoder_pass import Look, Seen, look
from pretrain.survey.neighbours import NeighbourMaker
from pretrain.survey.prototypes import PrototypeMaker, hierarchy_of
from pretrain.survey.survey import Findings, Survey, TableMaker

__all__ = [
    "BoxMaker",
    "Findings",
    "Look",
    "NeighbourMaker",
    "PrototypeMaker",
    "Seen",
    "Survey",
    "TableMaker",
    "extract_boxes",
    "heat_maps",
    "hierarchy_of",
    "look",
]
