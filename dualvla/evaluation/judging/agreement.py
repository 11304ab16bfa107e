"""Do two judges order the same trajectories alike? Spearman's rank correlation, by dimension.

Ratings of different judges are on different scales, so only their order is compared. The interval
is Bonett and Wright's (2000): Fisher's z with a standard error of sqrt((1 + r^2 / 2) / (n - 3)),
which keeps its coverage where the older 1.06 / sqrt(n - 3) does not.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from dualvla.errors import UserError
from dualvla.evaluation import simpler, vla_score

NAMES = (*vla_score.RATINGS, "score")


def spearman(
    first: NDArray[np.floating], second: NDArray[np.floating], confidence: float = 0.95
) -> tuple[float | None, float, float]:
    """Rank correlation with its interval.

    Returns:
        rho, low, high; rho is None and the interval [-1, 1] with fewer than four pairs or where
        one side says the same of all.
    """
    if len(first) < 4 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None, -1.0, 1.0
    rho = float(stats.spearmanr(first, second).statistic)
    if abs(rho) > 1 - 1e-12:  # of one order, or its reverse
        return float(round(rho)), float(round(rho)), float(round(rho))
    half = float(stats.norm.ppf(0.5 + confidence / 2))
    half *= math.sqrt((1 + rho * rho / 2) / (len(first) - 3))
    return rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def compare(first: Path, second: Path) -> list[dict[str, Any]]:
    """Agreement of two folders of scores on the trajectories that both rated.

    Returns:
        a row for each of r, a, i, ra and score that both have: name, n, rho, low, high, difference
        (mean of first minus second, in points of 10; the score's in [-1, 1]).

    Raises:
        UserError: no scores, or no trajectory that both rated.
    """
    tables = []
    for folder in (first, second):
        path = folder / "scores.parquet"
        if not path.is_file():
            raise UserError("no such file", where=str(path), fix="run the stage score first")
        table = pd.read_parquet(path)
        tables.append(table[table["status"] == "ok"])
    merged = tables[0].merge(tables[1], on=simpler.KEY, validate="one_to_one")
    if merged.empty:
        fix = "rate the same evaluation with two judges"
        raise UserError("no trajectory that both rated", where=f"{first}, {second}", fix=fix)
    rows = []
    for name in NAMES:
        pair = merged[[f"{name}_x", f"{name}_y"]].dropna().to_numpy(float)
        if len(pair):
            rho, low, high = spearman(pair[:, 0], pair[:, 1])
            gap = float((pair[:, 0] - pair[:, 1]).mean())
            figures = {"rho": rho, "low": low, "high": high, "difference": gap}
            rows.append({"name": name, "n": len(pair)} | figures)
    return rows
