"""Golden values of the metrics from scikit-learn and scipy: `python tests/golden/metrics.py > tests/golden/metrics.json`."""
import json, warnings
import numpy as np, scipy, sklearn
from scipy import stats
from sklearn import metrics

warnings.filterwarnings("ignore")  # the degenerate cases warn
rng = np.random.default_rng(5)


def classes(name, classes, truth, predicted):
    average = "binary" if classes == 2 else "macro"
    return {
        "name": name, "classes": classes, "truth": [int(x) for x in truth], "predicted": [int(x) for x in predicted],
        "accuracy": metrics.accuracy_score(truth, predicted),
        "f1": metrics.f1_score(truth, predicted, average=average, zero_division=0),
        "matthews": metrics.matthews_corrcoef(truth, predicted),
    }


def drawn(name, n, k, right):
    truth = rng.integers(0, k, n)
    return classes(name, k, truth, np.where(rng.random(n) < right, truth, rng.integers(0, k, n)))


def number(x):
    return None if np.isnan(x) else float(x)


def values(name, x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    return {
        "name": name, "x": x.tolist(), "y": y.tolist(),
        "pearson": number(stats.pearsonr(x, y)[0]), "spearman": number(stats.spearmanr(x, y)[0]),
    }


def outputs(name, n, k, width):
    logits = (rng.normal(size=(n, k)) * width).astype(np.float32)
    truth = rng.integers(0, k, n)
    log_probs = np.log(np.exp(logits.astype(float) - logits.max(1, keepdims=True).astype(float)))
    log_probs -= np.log(np.exp(log_probs).sum(1, keepdims=True))
    more = classes(name, k, truth, logits.argmax(1))
    return more | {"logits": [float(x) for x in logits.ravel()], "loss": float(-log_probs[np.arange(n), truth].mean())}


truth = rng.uniform(0, 5, 40)
golden = {
    "versions": {"numpy": np.__version__, "scikit-learn": sklearn.__version__, "scipy": scipy.__version__},
    "classes": [
        drawn("two classes", 60, 2, 0.7), drawn("chance", 50, 2, 0.0), drawn("three classes", 60, 3, 0.6),
        drawn("five classes", 80, 5, 0.5),
        classes("all right", 2, [0, 1, 1, 0], [0, 1, 1, 0]), classes("all wrong", 2, [0, 1, 1, 0], [1, 0, 0, 1]),
        classes("always 1", 2, [0, 1, 1, 0, 1], [1, 1, 1, 1, 1]), classes("always 0", 2, [0, 1, 1, 0, 1], [0] * 5),
        classes("one true class", 2, [0, 0, 0], [0, 0, 1]), classes("only 0", 2, [0, 0, 0], [0, 0, 0]),
        classes("a class never seen", 4, [0, 1, 2, 1, 0], [0, 1, 1, 1, 2]),
        classes("a class never true", 3, [0, 1, 1, 0], [0, 2, 1, 0]), classes("one row", 2, [1], [1]),
    ],
    "values": [
        values("noisy", truth, truth + rng.normal(size=40)), values("ties", np.round(truth), np.round(truth + rng.normal(size=40))),
        values("falling", truth, -np.exp(truth)), values("two rows", [1, 2], [5, 3]),
        values("constant predictions", [0.1] * 6, [1, 2, 3, 4, 5, 6]), values("constant truth", [1, 2, 3], [4, 4, 4]),
        values("far from zero", 1e6 + truth, 3 * truth + rng.normal(size=40)), values("tiny", 1e-9 * truth, truth**2),
    ],
    "outputs": [outputs("two classes", 30, 2, 2.0), outputs("three classes, large logits", 30, 3, 60.0)],
}
print(json.dumps(golden, separators=(",", ":")))
