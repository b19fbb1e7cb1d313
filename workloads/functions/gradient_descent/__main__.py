"""Softmax regression on handwritten digits, trained with batch gradient descent in numpy.

The data are the 1,797 real 8x8 images that scikit-learn carries, replicated with pixel noise to the asked size.
Parameters: ``samples`` (500 to 100,000 images), ``epochs`` (1 to 2,000), ``learning_rate`` (0 to 10), ``seed``.
"""

import os

# Waiting threads must sleep: spinning would use up the CPU quota of the container. Read when numpy loads.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import importlib.util  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

CLASSES = 10
NOISE = 1.0


def load_digits():
    """Images (1797, 64) scaled to 0..1 and their labels (1797,).

    Read from scikit-learn's file: importing the package itself would cost a second and 100 MB in every container.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise ImportError("scikit-learn, which carries the data of this function, is not installed")
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return table[:, :-1] / 16.0, table[:, -1].astype(np.intp)


IMAGES, LABELS = load_digits()


def whole(args, name, default, low, high):
    """The whole number ``args[name]``; ValueError if it is not one from low to high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return value


def training_set(samples, rng):
    """Inputs (samples, 65), the last column being the bias, and labels (samples,)."""
    rows = np.arange(samples) % len(IMAGES)
    inputs = np.empty((samples, IMAGES.shape[1] + 1))
    inputs[:, :-1] = rng.standard_normal((samples, IMAGES.shape[1])) * (NOISE / 16.0)
    inputs[:, :-1] += IMAGES[rows]
    inputs[:, -1] = 1.0
    return inputs, LABELS[rows]


def softmax(scores):
    """Row-wise softmax of (samples, classes), computed in place."""
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def main(args):
    """Returns the mean cross-entropy before and after the training, the accuracy and the norm of the weights."""
    try:
        samples = whole(args, "samples", 5_000, 500, 100_000)
        epochs = whole(args, "epochs", 50, 1, 2_000)
        rate = args.get("learning_rate", 0.5)
        if type(rate) not in (int, float) or not 0 < rate <= 10:
            raise ValueError("learning_rate must be a number above 0, at most 10")
        rng = np.random.default_rng(whole(args, "seed", 0, 0, 2**32 - 1))
    except ValueError as error:
        return {"error": str(error)}
    inputs, labels = training_set(samples, rng)
    weights = np.zeros((inputs.shape[1], CLASSES))
    each = np.arange(samples)
    losses = []
    for _ in range(epochs):
        chances = softmax(inputs @ weights)
        losses.append(-float(np.log(chances[each, labels] + 1e-12).mean()))
        chances[each, labels] -= 1.0
        weights -= rate / samples * (inputs.T @ chances)
    accuracy = float(((inputs @ weights).argmax(axis=1) == labels).mean())
    return {
        "samples": samples,
        "epochs": epochs,
        "first_loss": round(losses[0], 4),
        "last_loss": round(losses[-1], 4),
        "accuracy": round(accuracy, 4),
        "weights_norm": round(float(np.linalg.norm(weights)), 4),
    }
