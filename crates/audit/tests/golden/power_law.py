"""Golden fits of the inverse power law, by SciPy's trust-region least squares from many starts.

Run:  python power_law.py > power_law.json
The versions used are written into the file.
"""

import json
import sys

import numpy as np
import scipy
from scipy.optimize import least_squares

rng = np.random.default_rng(20260104)


def case(ceiling, scale, decay, noise, sizes, repeats):
    n = np.repeat(sizes, repeats).astype(float)
    weight = np.repeat((np.arange(len(sizes)) + 1) / len(sizes), repeats)
    y = np.clip(ceiling - scale * n**-decay + noise * rng.normal(size=len(n)), 0, 1).round(5)
    residual = lambda t: np.sqrt(weight) * (t[0] - t[1] * n ** -t[2] - y)
    best = min(
        (
            least_squares(residual, (c, s, d), bounds=([0, 0, 0.05], [1, np.inf, 3]), xtol=1e-14, ftol=1e-14, gtol=1e-14)
            for c in (0.7, 0.9, 0.99)
            for s in (0.3, 1.0, 5.0)
            for d in (0.2, 0.5, 1.0)
        ),
        key=lambda r: r.cost,
    )
    return {
        "n": n.tolist(),
        "accuracy": y.tolist(),
        "weight": weight.tolist(),
        "ceiling": best.x[0],
        "scale": best.x[1],
        "decay": best.x[2],
        "error": 2 * best.cost,
    }


cases = [
    case(0.95, 2.0, 0.5, 0.0, [50, 100, 200, 400, 800], 1),
    case(0.95, 2.0, 0.5, 0.01, [50, 100, 200, 400, 800], 5),
    case(0.88, 1.0, 0.3, 0.02, [30, 60, 120, 240, 500, 1000], 4),
    case(1.0, 3.0, 0.7, 0.02, [30, 60, 120, 240, 500, 1000], 4),
    case(0.9, 0.0, 0.7, 0.03, [30, 60, 120, 240], 3),
]
print(json.dumps({"versions": {"python": sys.version.split()[0], "numpy": np.__version__, "scipy": scipy.__version__}, "cases": cases}))
