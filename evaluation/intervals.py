"""How far a number counted on so many test images may lie from the one that endlessly many would give."""

from __future__ import annotations

from scipy.stats import norm

CONFIDENCE = 0.95


def wilson(correct: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a proportion, in percent (Wilson, JASA 22, 1927).

    It covers the chance of the test images alone: not that of the training, nor of its images.

    Parameters
    ----------
    correct, total
        Right answers, of how many.
    """
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct} of {total} is no proportion")
    z = float(norm.ppf(0.5 + confidence / 2))
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * ((share * (1 - share) + z * z / (4 * total)) / total) ** 0.5
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)
