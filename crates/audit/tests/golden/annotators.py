"""Golden values for labels of several annotators: CROWDLAB by cleanlab, Dawid-Skene by a plain transcription of the paper's equations on the
paper's own data (its table 1: 45 patients, five anaesthetists, of whom the first judged each patient three times).

Run:  python annotators.py > annotators.json
The versions used are written into the file. Ties that cleanlab would break at random go to the lowest class (`np.random.choice` patched).
"""

import json
import sys
import warnings

import cleanlab
import numpy as np
import pandas as pd
from cleanlab import multiannotator

warnings.simplefilter("ignore")
rng = np.random.default_rng(20260103)
np.random.choice = lambda options: options[0]

# One string a patient: the first anaesthetist's three answers, then one of each other.
TABLE_1 = """
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343 1111111 2223212 1211111
1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222 1111111 1111111 2322222 1111111 1111111 1121121
1111111 3333233 1111111 2222222 2223232 4334343 2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
""".split()


def crowdlab_case(n, annotators, classes, missing, skill, steps):
    truth = rng.integers(0, classes, n)
    good = rng.random((n, annotators)) < rng.uniform(skill, 1.0, annotators)
    labels = np.where(good, truth[:, None], rng.integers(0, classes, (n, annotators))).astype(float)
    hidden = rng.random((n, annotators)) < missing
    hidden[np.arange(n), rng.integers(0, annotators, n)] = False
    hidden[np.arange(annotators), np.arange(annotators)] = False
    labels[hidden] = np.nan
    p = rng.dirichlet(np.full(classes, 0.6), n)
    p[np.arange(n), truth] += 0.7
    p /= p.sum(1, keepdims=True)
    p = np.floor(p * steps)
    p[np.arange(n), p.argmax(1)] += steps - p.sum(1)
    p /= steps
    found = multiannotator.get_label_quality_multiannotator(labels, p, return_weights=True, verbose=False)
    quality, stats = found["label_quality"], found["annotator_stats"].sort_index()
    return {
        "annotators": annotators,
        "classes": classes,
        "labels": [None if np.isnan(v) else int(v) for v in labels.ravel()],
        "p": p.ravel().tolist(),
        "majority": multiannotator.get_majority_vote_label(labels, p, verbose=False).tolist(),
        "majority_alone": multiannotator.get_majority_vote_label(labels, verbose=False).tolist(),
        "consensus": quality["consensus_label"].tolist(),
        "quality": quality["consensus_quality_score"].tolist(),
        "agreement": quality["annotator_agreement"].tolist(),
        "annotator_quality": [None if np.isnan(v) else v for v in stats["annotator_quality"].tolist()],
        "annotator_agreement": stats["agreement_with_consensus"].tolist(),
        "worst_class": stats["worst_class"].tolist(),
        "model_weight": float(found["model_weight"]),
        "annotator_weights": found["annotator_weight"].tolist(),
    }


def dawid_skene(labels, classes, tolerance=1e-5):
    n, annotators = labels.shape
    votes = np.zeros((n, annotators, classes))
    for i, a in np.argwhere(labels >= 0):
        votes[i, a, labels[i, a]] = 1
    t = votes.sum(1) / votes.sum((1, 2))[:, None]
    old = None
    for step in range(1, 201):
        prior = t.mean(0)
        rates = np.einsum("ij,ial->ajl", t, votes)
        sums = rates.sum(2, keepdims=True)
        rates = np.divide(rates, sums, out=np.zeros_like(rates), where=sums > 0)
        t = prior * np.prod(rates[None] ** votes[:, :, None, :], axis=(1, 3))
        t /= t.sum(1, keepdims=True)
        if old is not None and np.abs(prior - old[0]).sum() < tolerance and np.abs(rates - old[1]).sum() < tolerance:
            break
        old = prior, rates
    return {"steps": step, "p": t.ravel().tolist(), "prior": prior.tolist(), "rates": rates.ravel().tolist()}


# The first anaesthetist's three answers count as three annotators here: the paper lets them share their rates, which this file does not.
table = np.array([[int(c) - 1 for c in row] for row in TABLE_1])
sparse = np.where(rng.random(table.shape) < 0.3, -1, table)
sparse[np.arange(len(table)), rng.integers(0, 7, len(table))] = table[np.arange(len(table)), 0]
out = {
    "versions": {"python": sys.version.split()[0], "cleanlab": cleanlab.__version__, "numpy": np.__version__, "pandas": pd.__version__},
    "crowdlab": [
        crowdlab_case(40, 3, 3, 0.0, 0.7, 64),
        crowdlab_case(60, 5, 4, 0.5, 0.4, 64),
        crowdlab_case(30, 2, 3, 0.3, 0.3, 4),
        crowdlab_case(50, 8, 2, 0.7, 0.2, 8),
        crowdlab_case(50, 4, 6, 0.0, 0.0, 2),
    ],
    "dawid_skene": [
        {"annotators": 7, "classes": 4, "labels": [None if v < 0 else int(v) for v in x.ravel()], **dawid_skene(x, 4)} for x in (table, sparse)
    ],
}
json.dump(out, sys.stdout)
print()
