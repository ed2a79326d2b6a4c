"""Golden values of the label checks, computed by cleanlab.

Run:  python labels.py [CASES SEED] > labels.json
The versions used are written into the file.

cleanlab cuts tied scores where NumPy's default sort happens to leave them, which differs between processors. The masks here are made with
NumPy's stable sort (`argsort` patched below), which is what this project does; `sort_matters` counts the items that the unpatched default
sort of the machine that ran this script decided otherwise.
"""

import json
import sys
import warnings

import cleanlab
import numpy as np
from cleanlab import count, filter as cl_filter, rank

warnings.simplefilter("ignore")
CASES = int(sys.argv[1]) if len(sys.argv) > 1 else 150
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 20260101
rng = np.random.default_rng(SEED)
RULES = ["prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given"]
default_argsort = np.argsort


def stable_argsort(a, *args, **kwargs):
    return default_argsort(a, kind="stable")


def rounded(p, steps):
    """Rows that are multiples of 1/steps and sum to one: many ties, exact in JSON."""
    c = np.floor(p * steps).astype(int)
    c[np.arange(len(p)), p.argmax(1)] += steps - c.sum(1)
    return c / steps


def draw(kind):
    k = int(rng.integers(2, 8))
    n = int(rng.integers(2, 90))
    sharp = float(rng.choice([0.05, 0.3, 1.0, 5.0]))
    steps = int(rng.choice([4, 8, 16, 4096]))
    p = rounded(rng.dirichlet(np.full(k, sharp), n), steps)
    labels = np.array([rng.choice(k, p=row) for row in p])
    flip = rng.random(n) < rng.choice([0.0, 0.1, 0.4])
    labels = np.where(flip, rng.integers(0, k, n), labels)
    if kind == "absent":
        labels[labels == k - 1] = 0
        if k > 3:
            labels[labels == 1] = 2
    elif kind == "one":
        labels[:] = 0
    elif kind == "rare":
        labels[:] = 0
        labels[-1] = k - 1
    elif kind == "constant":
        p[:] = p[0]
    elif kind == "uniform":
        p[:] = 1.0 / k
    elif kind == "hard":
        p = np.eye(k)[p.argmax(1)]
    elif kind == "wrong":
        p = np.eye(k)[(labels + 1) % k]
    steps = {"uniform": k, "hard": 1, "wrong": 1}.get(kind, steps)
    assert (np.rint(p * steps) / steps == p).all()
    return labels, p, steps


def masks(labels, p, minimum, frac):
    out = {}
    for rule in RULES:
        try:
            kwargs = {"frac_noise": frac} if rule in RULES[:3] else {}
            mask = cl_filter.find_label_issues(labels, p, filter_by=rule, min_examples_per_class=minimum, n_jobs=1, **kwargs)
            out[rule] = np.flatnonzero(mask).tolist()
        except ValueError as error:
            assert "at least 2 classes" in str(error), error
            out[rule] = None
    return out


def case(kind, scores):
    labels, p, steps = draw(kind)
    minimum = int(rng.choice([0, 1, 1, 1, 5]))
    frac = float(rng.choice([1.0, 1.0, 1.0, 0.5]))
    np.argsort = default_argsort
    plain = masks(labels, p, minimum, frac)
    np.argsort = stable_argsort
    stable = masks(labels, p, minimum, frac)
    joint, off = count.compute_confident_joint(labels, p, calibrate=True, return_indices_of_off_diagonals=True)
    raw = count.compute_confident_joint(labels, p, calibrate=False)
    py, noise, inverse = count.estimate_latent(joint, labels)
    one = len(set(labels)) < 2
    issues = None if one else int(count.num_label_issues(labels, p))
    calibrated = None if one else int(count.num_label_issues(labels, p, estimation_method="off_diagonal_calibrated"))
    np.argsort = default_argsort
    out = {
        "kind": kind,
        "classes": p.shape[1],
        "labels": labels.tolist(),
        "steps": steps,
        "p": np.rint(p * steps).astype(int).ravel().tolist(),
        "minimum": minimum,
        "frac": frac,
        "thresholds": count.get_confident_thresholds(labels, p).tolist(),
        "raw": raw.ravel().tolist(),
        "joint": joint.ravel().tolist(),
        "off": off.tolist(),
        "issues": issues,
        "issues_calibrated": calibrated,
        "masks": stable,
        "sort_matters": sum(len(set(plain[r] or []) ^ set(stable[r] or [])) for r in RULES),
        "prior": py.tolist(),
        "noise": noise.ravel().tolist(),
        "inverse": inverse.ravel().tolist(),
    }
    if scores:
        out["self_confidence"] = rank.get_self_confidence_for_each_label(labels, p).tolist()
        out["normalized_margin"] = rank.get_normalized_margin_for_each_label(labels, p).tolist()
        out["entropy"] = rank.get_confidence_weighted_entropy_for_each_label(labels, p).tolist()
    return out


KINDS = ["random", "random", "random", "absent", "one", "rare", "constant", "uniform", "hard", "wrong"]
cases = [case(KINDS[i % len(KINDS)], i < 30) for i in range(CASES)]
versions = {"python": sys.version.split()[0], "cleanlab": cleanlab.__version__, "numpy": np.__version__}
json.dump({"versions": versions, "cases": cases}, sys.stdout)
print()
print(f"{len(cases)} cases; the default sort decides {sum(c['sort_matters'] for c in cases)} items otherwise", file=sys.stderr)
