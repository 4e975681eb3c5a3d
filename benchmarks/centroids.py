"""Embeddings of labelled texts -> how often the nearest centroid of a class is that of a text's own."""

from collections.abc import Sequence

import numpy as np
from contenders import Array

from trtbert.metrics import accuracy

Label = tuple[str, ...]


def accuracy_by_centroids(train_ND: Array, test_ND: Array, train_labels: Sequence[Label], test_labels: Sequence[Label]) -> float:
    """In percent, of the texts of the test; all vectors of length 1."""
    classes = sorted(set(train_labels))
    class_N = np.array([classes.index(label) for label in train_labels])
    means_CD = np.stack([train_ND[class_N == index].mean(0) for index in range(len(classes))])
    centroids_CD = means_CD / np.linalg.norm(means_CD, axis=1, keepdims=True)
    return accuracy(test_labels, [classes[index] for index in (test_ND @ centroids_CD.T).argmax(1)])
