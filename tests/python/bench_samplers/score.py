"""Scores, and their means with their uncertainty."""

import numpy as np

# Below a median random point's distance to COCO's optima, in powers of ten, is a score of 1.
DECADES = 6.0

DRAWS = 2_000


def of_distance(suite, distance):
    """0 for a median random feasible point or worse, 1 for the optimum; of COCO's by the logarithm of the distance."""
    if not suite.startswith("bbob"):
        return np.clip(1.0 - distance, 0.0, 1.0)
    return np.clip(-np.log10(np.maximum(distance, 10.0**-DECADES)) / DECADES, 0.0, 1.0)


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
        count = len(rows)
        # A plain bootstrap of n seeds has (n − 1)/n of the variance; with few seeds its intervals are too narrow.
        center = rows.mean(axis=0)
        spread = center + (rows - center) * np.sqrt(count / (count - 1))
        drawn += spread[rng.integers(count, size=(DRAWS, count))].mean(axis=1)
    drawn /= len(scores)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return means, low, high
