"""Results: their schema, and the record of what a number was made with."""

from zoo.results.result import (
    SCHEMA,
    DataFacts,
    Headline,
    ModelFacts,
    Result,
    ResultError,
    SplitFacts,
    check_result_path,
    load_result,
    save_result,
)

__all__ = [
    "SCHEMA",
    "DataFacts",
    "Headline",
    "ModelFacts",
    "Result",
    "ResultError",
    "SplitFacts",
    "check_result_path",
    "load_result",
    "save_result",
]
