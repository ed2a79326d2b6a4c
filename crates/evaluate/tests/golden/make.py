"""Golden values of the metrics, computed by scikit-learn (and NumPy for what it lacks: the ECE).

Run:  python make.py > metrics.json
The versions used are written into the file. `null` is a value that scikit-learn gives as NaN, or, where it warns and
substitutes 0 (precision without predictions, average precision without positives), the value it would have to invent.
"""

import json
import sys
import warnings

import numpy as np
import sklearn
from sklearn import metrics as m

warnings.simplefilter("ignore")
rng = np.random.default_rng(20250607)


def number(x):
    x = float(x)
    return None if np.isnan(x) else x


def dyadic(n, k, sharp=1.0):
    """Distributions whose entries are multiples of 1/4096: exact in binary, short in JSON, a few ties."""
    p = rng.dirichlet(np.full(k, sharp), n)
    c = np.floor(p * 4096).astype(int)
    c[np.arange(n), p.argmax(1)] += 4096 - c.sum(1)
    return c / 4096


def truth_like(p, noise=0.5):
    n, k = p.shape
    drawn = np.array([rng.choice(k, p=row) for row in p])
    return np.where(rng.random(n) < noise, rng.integers(0, k, n), drawn)


def one_hot(y, k):
    return np.eye(k)[y]


def ece(y, p, bins):
    conf, hit = p.max(1), p.argmax(1) == y
    which = np.clip(np.ceil(conf * bins) - 1, 0, bins - 1).astype(int)
    total = 0.0
    for b in range(bins):
        inside = which == b
        if inside.any():
            total += inside.sum() * abs(hit[inside].mean() - conf[inside].mean())
    return total / len(y)


def expected(y, p):
    n, k = p.shape
    labels = np.arange(k)
    pred = p.argmax(1)
    support = np.bincount(y, minlength=k)
    out = {
        "accuracy": m.accuracy_score(y, pred),
        "balanced_accuracy": m.balanced_accuracy_score(y, pred),
        "log_loss": m.log_loss(y, p, labels=labels) if k > 1 else None,
        "brier": m.brier_score_loss(y, p, labels=labels) if k > 2 else m.brier_score_loss(y, p[:, 1], pos_label=1, labels=labels),
        "ece": ece(y, p, 15),
        "kappa": m.cohen_kappa_score(y, pred, labels=labels),
        "mcc": m.matthews_corrcoef(y, pred),
        "top_k": {str(t): m.top_k_accuracy_score(y, p, k=t, labels=labels) for t in (2, 3) if k > t},
        "confusion": m.confusion_matrix(y, pred, labels=labels).tolist(),
    }
    for average in ("macro", "micro", "weighted"):
        a, b, c, _ = m.precision_recall_fscore_support(y, pred, labels=labels, average=average, zero_division=0)
        out |= {f"{average}_precision": a, f"{average}_recall": b, f"{average}_f1": c}

    hot = one_hot(y, k)

    def auc(truth, score):
        return m.roc_auc_score(truth, score) if 0 < truth.sum() < len(truth) else float("nan")

    def ap(truth, score):
        return m.average_precision_score(truth, score) if truth.sum() else float("nan")

    if k == 2:
        out["roc_auc_macro"] = out["roc_auc_weighted"] = auc(y, p[:, 1])
        out["average_precision_macro"] = ap(y, p[:, 1])
    else:
        for average in ("macro", "weighted"):
            out[f"roc_auc_{average}"] = m.roc_auc_score(y, p, multi_class="ovr", average=average, labels=labels)
        whole = (support > 0).all()
        out["average_precision_macro"] = m.average_precision_score(hot, p, average="macro") if whole else float("nan")
    out["roc_auc_micro"] = m.roc_auc_score(hot, p, average="micro")
    a, b, c, s = m.precision_recall_fscore_support(y, pred, labels=labels, zero_division=np.nan)
    per_class = [
        {
            "precision": number(a[i]),
            "recall": number(b[i]),
            "f1": number(c[i]),
            "support": int(s[i]),
            "predicted": int((pred == i).sum()),
            "roc_auc": number(auc(hot[:, i], p[:, i])),
            "average_precision": number(ap(hot[:, i], p[:, i])),
        }
        for i in range(k)
    ]
    out = {key: v if isinstance(v, (dict, list)) else None if v is None else number(v) for key, v in out.items()}
    out["per_class"] = per_class
    return out


def curves(y, p):
    """ROC and precision-recall points of the last class."""
    t, s = y == p.shape[1] - 1, p[:, -1]
    fpr, tpr, _ = m.roc_curve(t, s, drop_intermediate=False)
    precision, recall, _ = m.precision_recall_curve(t, s)
    return {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "precision": precision.tolist()[::-1], "recall": recall.tolist()[::-1]}


def case(name, y, p, with_curves=False):
    y = np.asarray(y)
    found = {"name": name, "truth": y.tolist(), "probabilities": p.tolist(), "expected": expected(y, p)}
    if with_curves:
        found["curves"] = curves(y, p)
    return found


cases = []
p = dyadic(160, 4)
cases.append(case("random, 4 classes", truth_like(p), p))
p = rng.dirichlet(np.ones(5), 60)
cases.append(case("random, full precision", truth_like(p), p, True))
p = dyadic(150, 2)
cases.append(case("random, binary", truth_like(p), p, True))
p = rng.multinomial(4, np.ones(3) / 3, 120) / 4
cases.append(case("tied, 3 classes", truth_like(p), p, True))
p = rng.multinomial(4, np.ones(2) / 2, 80) / 4
cases.append(case("tied, binary", truth_like(p), p, True))
cases.append(case("all alike", rng.integers(0, 4, 40), np.full((40, 4), 0.25)))
p = dyadic(90, 4)
y = truth_like(p)
y[y == 2] = 0
cases.append(case("class absent from the truth", y, p))
p = dyadic(90, 4)
p[:, 0] += p[:, 3]
p[:, 3] = 0
cases.append(case("class never predicted", truth_like(p, 0.9), p))
p = dyadic(70, 5)
p[:, 0] += p[:, 3]
p[:, 3] = 0
y = truth_like(p, 0.2)
y[y == 3] = 1
cases.append(case("class neither true nor predicted", y, p))
p = dyadic(50, 3)
cases.append(case("single class in the truth, 3 classes", np.ones(50, int), p))
p = dyadic(50, 2)
cases.append(case("single class in the truth, binary", np.zeros(50, int), p))
cases.append(case("single class, positive", np.ones(50, int), p))
y = rng.integers(0, 3, 30)
cases.append(case("perfect and certain", y, one_hot(y, 3)))
cases.append(case("certain and wrong", y, one_hot((y + 1) % 3, 3)))
cases.append(case("certain of one class", y, one_hot(np.zeros(30, int), 3)))
cases.append(case("only one class, found", np.zeros(20, int), one_hot(np.zeros(20, int), 3)))
cases.append(case("one sample", [2], np.array([[0.25, 0.25, 0.5]])))

json.dump(
    {
        "made_by": "make.py",
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "cases": cases,
    },
    sys.stdout,
    separators=(",", ":"),
)
print()
