"""k-nearest-neighbours classification of handwritten digits with scikit-learn.

The data are the 1,797 real 8x8 images that scikit-learn carries. A part is kept apart for the queries; the rest is
replicated with pixel noise to the asked size, as a service that keeps many variants of its examples would.
Parameters: ``samples`` (500 to 100,000 examples), ``queries`` (10 to 5,000), ``neighbours`` (1 to 50), ``seed``.
"""

import os

# Waiting threads must sleep: spinning would use up the CPU quota of the container. The thread count follows the
# machine, not the quota, so that CPU lent to this container makes it faster. Both are read when the libraries load.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import hashlib  # noqa: E402

import numpy as np  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = IMAGES.astype(np.float32)
HELD_OUT = 360
NOISE = 1.5


def whole(args, name, default, low, high):
    """The whole number ``args[name]``; ValueError if it is not one from low to high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return value


def noisy(images, labels, count, rng):
    """``count`` images (count, 64) drawn in turn from ``images``, each with its own pixel noise, and their labels."""
    rows = np.arange(count) % len(images)
    noise = rng.standard_normal((count, images.shape[1]), dtype=np.float32) * np.float32(NOISE)
    return images[rows] + noise, labels[rows]


def main(args):
    """Returns the accuracy over the queries, their predicted classes counted, and the predictions' SHA-256."""
    try:
        samples = whole(args, "samples", 10_000, 500, 100_000)
        queries = whole(args, "queries", 500, 10, 5_000)
        neighbours = whole(args, "neighbours", 5, 1, 50)
        rng = np.random.default_rng(whole(args, "seed", 0, 0, 2**32 - 1))
    except ValueError as error:
        return {"error": str(error)}
    order = rng.permutation(len(IMAGES))
    kept, held_out = order[HELD_OUT:], order[:HELD_OUT]
    examples, classes = noisy(IMAGES[kept], LABELS[kept], samples, rng)
    asked, expected = noisy(IMAGES[held_out], LABELS[held_out], queries, rng)
    model = KNeighborsClassifier(n_neighbors=neighbours, algorithm="brute").fit(examples, classes)
    predicted = model.predict(asked)
    return {
        "samples": samples,
        "queries": queries,
        "accuracy": round(float((predicted == expected).mean()), 4),
        "predicted": np.bincount(predicted, minlength=10).tolist(),
        "sha256": hashlib.sha256(predicted.astype(np.uint8).tobytes()).hexdigest(),
    }
