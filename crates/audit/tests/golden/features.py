"""Golden values of the checks on features, computed by cleanlab's datalab issue managers (and scikit-learn for the clusters).

Run:  python features.py > features.json
The versions used are written into the file. A stub stands in for the Datalab object, which needs the `datasets` package.
"""

import json
import sys
import warnings

import cleanlab
import numpy as np
import pandas as pd
import scipy
import sklearn
from cleanlab.datalab.internal.issue_manager.noniid import NonIIDIssueManager
from cleanlab.datalab.internal.issue_manager.outlier import OutlierIssueManager
from cleanlab.datalab.internal.issue_manager.imbalance import ClassImbalanceIssueManager
from cleanlab.datalab.internal.issue_manager.underperforming_group import UnderperformingGroupIssueManager
from cleanlab.datalab.internal import spurious_correlation
from cleanlab.internal.neighbor.knn_graph import create_knn_graph_and_index
from sklearn.cluster import DBSCAN

warnings.simplefilter("ignore")
rng = np.random.default_rng(20260102)


class Stub:
    def __init__(self, labels=None, classes=0):
        self.labels = labels
        self.class_names = list(range(classes))
        self._label_map = {i: i for i in range(classes)}

    def get_info(self, _):
        return {}


def blobs(n, columns, centres, spread):
    middle = rng.normal(size=(centres, columns))
    which = rng.integers(0, centres, n)
    return (middle[which] + spread * rng.normal(size=(n, columns))).astype(np.float32), which


def graph_of(x, k):
    graph, _ = create_knn_graph_and_index(x.astype(np.float64), n_neighbors=k, metric="cosine")
    return graph


def outlier_case(n, columns, far):
    x, _ = blobs(n, columns, 3, 0.3)
    x[:far] = -3 * x[:far] + rng.normal(size=(far, columns))
    x[n // 2] = x[n // 2 + 1]
    x = x.round(3)
    manager = OutlierIssueManager(Stub(), metric="cosine")
    graph = graph_of(x, 10)
    manager.find_issues(knn_graph=graph, features=None)
    return {
        "columns": columns,
        "x": [round(float(v), 3) for v in x.ravel()],
        "indices": graph.indices.tolist(),
        "distances": graph.data.tolist(),
        "threshold": manager.info["issue_threshold"],
        "scores": manager.issues["outlier_score"].tolist(),
        "flagged": np.flatnonzero(manager.issues["is_outlier_issue"]).tolist(),
    }


def order_case(n, k, drift):
    x, which = blobs(n, 4, 4, 0.4)
    if drift:
        x = x[np.argsort(which, kind="stable")]
    graph = graph_of(x, k)
    manager = NonIIDIssueManager(Stub(), k=k, metric="cosine")
    kept = []
    original = manager._get_statistics
    manager._get_statistics = lambda d: kept.append(original(d)) or kept[-1]
    manager.find_issues(knn_graph=graph)
    return {
        "k": k,
        "indices": graph.indices.tolist(),
        "statistic": float(kept[0]["ks"]),
        "permuted": [float(s["ks"]) for s in kept[1:]],
        "p_value": float(manager.p_value),
        "scores": manager.issues["non_iid_score"].tolist(),
    }


def balance_case(labels, classes):
    manager = ClassImbalanceIssueManager(Stub(np.array(labels), classes))
    manager.find_issues()
    return {
        "labels": labels,
        "classes": classes,
        "share": float(manager.summary["score"].iloc[0]),
        "flagged": np.flatnonzero(manager.issues["is_class_imbalance_issue"]).tolist(),
    }


def cluster_case(n, classes, eps):
    x, which = blobs(n, 6, 4, 0.25)
    labels = which % classes
    p = rng.dirichlet(np.full(classes, 0.5), n)
    own = np.where(which == 2, 0.02, 0.9)
    p = p * (1 - own)[:, None]
    p[np.arange(n), labels] += own
    p = np.rint(p * 4096) / 4096
    graph = graph_of(x, 10)
    ids = DBSCAN(metric="precomputed", eps=eps).fit_predict(graph.copy())
    manager = UnderperformingGroupIssueManager(Stub(labels))
    manager.find_issues(pred_probs=p, cluster_ids=ids)
    return {
        "n": n,
        "eps": eps,
        "indices": graph.indices.tolist(),
        "distances": graph.data.tolist(),
        "clusters": ids.tolist(),
        "labels": labels.tolist(),
        "classes": classes,
        "p": p.ravel().tolist(),
        "scores": manager.issues["underperforming_group_score"].tolist(),
        "flagged": np.flatnonzero(manager.issues["is_underperforming_group_issue"]).tolist(),
    }


def spurious_case(n, classes, strength):
    labels = rng.integers(0, classes, n)
    values = (strength * labels + rng.normal(size=n)).round(3)
    return {
        "labels": labels.tolist(),
        "classes": classes,
        "values": values.tolist(),
        "accuracy": spurious_correlation._train_and_eval(values.reshape(-1, 1), labels),
    }


out = {
    "versions": {
        "python": sys.version.split()[0],
        "cleanlab": cleanlab.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "pandas": pd.__version__,
    },
    "outliers": [outlier_case(60, 5, 2), outlier_case(120, 8, 5)],
    "order": [order_case(80, 5, False), order_case(81, 10, True), order_case(40, 3, True)],
    "balance": [
        balance_case([0] * 50 + [1] * 50 + [2], 3),
        balance_case([0] * 50 + [1] * 50 + [2] * 40, 3),
        balance_case([0] * 3 + [1] * 97, 2),
        balance_case([0] * 6 + [1] * 94, 2),
    ],
    "clusters": [cluster_case(90, 3, 0.05), cluster_case(120, 4, 0.5)],
    "spurious": [spurious_case(100, 2, 1.0), spurious_case(153, 4, 0.7), spurious_case(60, 3, 0.0)],
}
json.dump(out, sys.stdout)
print()
