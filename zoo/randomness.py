"""Random numbers with an address.

Every random choice in the toolkit is drawn from a counter-based generator at an address: a *seed*, a *purpose* (a word such as
``"crop"``) and up to three counters (epoch, sample index, view; or global step, rank). A number therefore depends on its address
alone: not on the worker that drew it, not on what was drawn before, not on where a run was resumed.

The generator is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), the one behind
``numpy.random.Philox``. :func:`uniforms` evaluates it for a whole batch of addresses at once and gives the very bits that
``numpy.random.Philox`` gives at each of them; :func:`generator` hands out NumPy's own generator where one stream is enough.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MASK32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)
# Multipliers and Weyl increments of Philox4x64 (Salmon et al. 2011, table 2).
_MULTIPLIER_0 = np.uint64(0xD2E7470EE14C6C93)
_MULTIPLIER_1 = np.uint64(0xCA5A826395121157)
_WEYL_0 = 0x9E3779B97F4A7C15
_WEYL_1 = 0xBB67AE8584CAA73B
_ROUNDS = 10
_TWO_POW_64 = 1 << 64


def _key(seed: int, purpose: str) -> tuple[int, int]:
    """The generator's 2 x 64-bit key: the seed, and the purpose's hash."""
    if not 0 <= seed < _TWO_POW_64:
        raise ValueError(f"a seed must lie in 0 .. 2**64 - 1, not {seed}")
    return seed, int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")


def _multiply_high_low(a: np.uint64, b: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The high and low 64 bits of the 128-bit products ``a * b`` (NumPy has no 128-bit integers)."""
    a_low, a_high = a & _MASK32, a >> _SHIFT32
    b_low, b_high = b & _MASK32, b >> _SHIFT32
    low_low = a_low * b_low
    high_low = a_high * b_low
    middle = a_low * b_high + (low_low >> _SHIFT32) + (high_low & _MASK32)
    return a_high * b_high + (high_low >> _SHIFT32) + (middle >> _SHIFT32), a * b


def uniforms(seed: int, purpose: str, count: int, *, index: ArrayLike, epoch: int = 0, view: int = 0) -> NDArray[np.float64]:
    """``count`` uniform numbers in [0, 1) for each sample.

    Parameters
    ----------
    seed, purpose
        The key.
    count
        Numbers per sample.
    index
        int array (B,): the samples' positions in their data set.
    epoch, view
        The other two counters of the address.

    Returns
    -------
    float64 array (B, count). Row i equals ``generator(seed, purpose, index[i], epoch, view).random(count)``.
    """
    samples = np.asarray(index, dtype=np.uint64)
    if samples.ndim != 1:
        raise ValueError(f"index must be one-dimensional, not of shape {samples.shape}")
    blocks = -(-count // 4)
    shape = (samples.shape[0], blocks)
    # NumPy's Philox adds one to the counter before each block of four numbers.
    c0 = np.broadcast_to(np.arange(1, blocks + 1, dtype=np.uint64), shape)
    c1 = np.broadcast_to(samples[:, None], shape)
    c2 = np.full(shape, epoch, dtype=np.uint64)
    c3 = np.full(shape, view, dtype=np.uint64)
    k0, k1 = _key(seed, purpose)
    with np.errstate(over="ignore"):
        for _ in range(_ROUNDS):
            high0, low0 = _multiply_high_low(_MULTIPLIER_0, c0)
            high1, low1 = _multiply_high_low(_MULTIPLIER_1, c2)
            c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
            k0, k1 = (k0 + _WEYL_0) % _TWO_POW_64, (k1 + _WEYL_1) % _TWO_POW_64
    bits = np.stack([c0, c1, c2, c3], axis=-1).reshape(shape[0], 4 * blocks)[:, :count]
    # The 53 high bits, as NumPy's Generator.random makes a double of 64 bits.
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(seed: int, purpose: str, index: int = 0, epoch: int = 0, view: int = 0) -> np.random.Generator:
    """NumPy's generator at one address, for draws that belong to one sample or to a whole epoch or step."""
    counter = np.array([0, index, epoch, view], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array(_key(seed, purpose), dtype=np.uint64), counter=counter))
