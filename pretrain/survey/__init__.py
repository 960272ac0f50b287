"""The survey: now and then the encoder is run over the whole training set, and tables made of its outputs shape the next epochs.

One page on it: ``docs/survey.md``.
"""

from pretrain.survey.boxes import BoxMaker, extract_boxes, heat_maps
from pretrain.survey.encoder_pass import EncoderPass, Outputs, run_pass
from pretrain.survey.neighbours import NeighbourMaker
from pretrain.survey.prototypes import PrototypeMaker, hierarchy_of
from pretrain.survey.survey import Findings, Survey, SurveyStopped, TableMaker

__all__ = [
    "BoxMaker",
    "EncoderPass",
    "Findings",
    "NeighbourMaker",
    "Outputs",
    "PrototypeMaker",
    "Survey",
    "SurveyStopped",
    "TableMaker",
    "extract_boxes",
    "heat_maps",
    "hierarchy_of",
    "run_pass",
]
