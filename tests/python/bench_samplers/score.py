"""Means of scores with their uncertainty."""

import numpy as np

DRAWS = 2_000


def mean_with_interval(scores):
    """Mean over problems of the mean over seeds, and its 95 % interval.

    `scores`: for each problem, one row per seed, one column per checkpoint. Seeds are drawn again within problems: the
    interval says how much of the mean is luck of the seeds, on these problems.
    """
    rng = np.random.default_rng(0)
    means = np.mean([rows.mean(axis=0) for rows in scores], axis=0)
    if min(map(len, scores)) < 2:
        # One seed says nothing about its luck.
        unknown = np.full_like(means, np.nan)
        return means, unknown, unknown
    drawn = np.zeros((DRAWS, scores[0].shape[1]))
    for rows in scores:
        picks = rng.integers(len(rows), size=(DRAWS, len(rows)))
        drawn += rows[picks].mean(axis=1)
    drawn /= len(scores)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return means, low, high
