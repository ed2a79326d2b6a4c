"""Writes logistic.json: scikit-learn's L2-regularised logistic regression on small made-up data.

usage: python logistic.py > logistic.json    (versions are written into the file)
"""
import json

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(7)
cases = []
for classes, c, weighted in ((2, 0.5, False), (2, 0.01, True), (3, 1.0, False), (4, 0.1, True)):
    x = rng.normal(size=(80, 5)).astype(np.float32)
    y = (x[:, 0] + 0.7 * x[:, 1] ** 2 + rng.normal(size=80) * 0.5)
    y = np.digitize(y, np.quantile(y, np.linspace(0, 1, classes + 1)[1:-1]))
    weights = rng.uniform(0.5, 2, size=80).astype(np.float32) if weighted else np.ones(80, dtype=np.float32)
    model = LogisticRegression(C=c, tol=1e-12, max_iter=10000).fit(x.astype(np.float64), y, sample_weight=weights)
    probabilities = model.predict_proba(x[:10].astype(np.float64))
    cases.append({"classes": classes, "c": c, "x": x.ravel().tolist(), "y": y.tolist(), "weights": weights.tolist(),
                  "coefficients": model.coef_.ravel().tolist(), "intercepts": model.intercept_.tolist(),
                  "probabilities": probabilities.ravel().tolist()})
print(json.dumps({"scikit-learn": sklearn.__version__, "numpy": np.__version__, "cases": cases}))
