"""Mixing: whether chains tell the same, and how many independent draws theirs are worth.

Functions of what chains passed by, arrays `(samples, chains, ...)`; each number of the rest is a
quantity of its own.
"""

from typing import Any

import numpy as np


def r_hat(draws: Any) -> np.ndarray:
    """How much wider all chains are together than each half of one, 1 at best: split R-hat.

        sqrt(((n - 1) / n * W + B / n) / W)

    with the mean `W` of the variances within halves of `n` draws, and `n` times the variance `B` of
    their means.

    Args:
        draws: `(samples, chains, ...)`, four samples or more.

    Returns:
        The rest of the shape; 1 for what never moves in any chain, infinite where chains stand
        still at different places.

    Reference:
        Gelman et al. 2013, "Bayesian Data Analysis", 3rd edition, sec. 11.4.
    """
    draws = np.asarray(draws, np.float64)
    half = len(draws) // 2
    halves = np.concatenate([draws[:half], draws[-half:]], axis=1)
    within = halves.var(axis=0, ddof=1).mean(axis=0)
    between = halves.mean(axis=0).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (half - 1) / half + between / within
    return np.where((within == 0) & (between == 0), 1.0, np.sqrt(ratio))


def effective_samples(draws: Any) -> np.ndarray:
    """How many independent draws tell the mean as well: effective sample size of all chains.

        samples * chains / (1 + 2 * (sum of the autocorrelations))

    where correlations of pairs of steps are summed as long as they are positive and fall, and
    chains at different places are correlated in themselves.

    Args:
        draws: `(samples, chains, ...)`, two chains or more.

    Returns:
        The rest of the shape; 0 where nothing moves.

    References:
        Geyer 1992, "Practical Markov Chain Monte Carlo", sec. 3.3.
        Gelman et al. 2013, "Bayesian Data Analysis", 3rd edition, sec. 11.5.
    """
    draws = np.asarray(draws, np.float64)
    samples, chains = draws.shape[:2]
    means = draws.mean(axis=0)
    # Padded, so that a chain does not go on at its beginning.
    spectrum = np.fft.rfft(draws - means, 2 * samples, axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:samples].mean(axis=1)
    covariance /= samples - 1
    within, between = covariance[0], means.var(axis=0, ddof=1)
    total = (samples - 1) / samples * within + between
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1 - (within - covariance) / total
    correlation[0] = 1.0
    even = samples // 2 * 2
    pairs = correlation[:even].reshape(-1, 2, *correlation.shape[1:]).sum(axis=1)
    # What is below zero is noise, as is all after it.
    pairs = np.minimum.accumulate(np.maximum(pairs, 0.0), axis=0)
    return np.where(total > 0, samples * chains / (2 * pairs.sum(axis=0) - 1), 0.0)
