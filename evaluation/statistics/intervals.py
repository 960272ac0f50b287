"""How far a number counted on so many test images may lie from the one that endlessly many would give."""

from __future__ import annotations

from scipy.stats import binomtest

CONFIDENCE = 0.95


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Wilson's score interval (95 %) of a proportion, in percent (Wilson, JASA 22, 1927).

    It covers the chance of the test images alone: not that of the training, nor of its images.

    Parameters
    ----------
    correct, total
        Right answers, of how many.
    """
    interval = binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)
