"""The literature's classical heads on features: fitted by scikit-learn, kept as plain Keras layers, never pickled."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from pneumospark.config import TrainConfig
from pneumospark.learn.weights import balanced

Floats = NDArray[np.floating[Any]]


def fitted(recipe: TrainConfig, data: tf.data.Dataset, audit: Callable[[], object]) -> keras.Model:
    """The recipe's head, from features (n, k) to probabilities (n, 1), taught in one pass over batches of x and y (n,).

    All features are held in memory: a million of 1,280 numbers are 5 GB. `audit` may raise.
    """
    batches = [(x.numpy(), y.numpy()) for x, y in data]
    audit()
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    truth = y.astype(np.int64)
    weights = balanced(np.bincount(truth, minlength=2).tolist())[truth] if recipe.class_weights == "balanced" else None
    return HEADS[recipe.head](x, truth, weights, recipe.seed)


def logistic(x: Floats, truth: NDArray[np.int64], weights: Floats | None, seed: int) -> keras.Model:
    """Logistic regression on standardised features: one Dense layer."""
    scaler = StandardScaler().fit(exact := x.astype(np.float64))
    model = LogisticRegression(max_iter=1000, random_state=seed)
    model.fit(scaler.transform(exact), truth, sample_weight=weights)
    kernel = model.coef_[0] / scaler.scale_
    inputs = keras.Input(x.shape[1:])
    return _ended(inputs, inputs, kernel, model.intercept_[0] - kernel @ scaler.mean_, "logistic")


def svm(x: Floats, truth: NDArray[np.int64], weights: Floats | None, seed: int) -> keras.Model:
    """Support vectors with a Gaussian kernel on standardised features; the logit is the decision function.

    exp(-gamma |x - s|²) of each vector s is exp(2 gamma x·s - gamma |x|² - gamma |s|²): a Dense layer over x and |x|².
    Calibration makes probabilities of it afterwards, which is Platt's scaling.
    """
    scaler = StandardScaler().fit(exact := x.astype(np.float64))
    scaled = scaler.transform(exact)
    gamma = 1 / (x.shape[1] * max(float(scaled.var()), 1e-12))  # what scikit-learn calls "scale"
    model = SVC(gamma=gamma, random_state=seed).fit(scaled, truth, sample_weight=weights)
    vectors = model.support_vectors_
    inputs = keras.Input(x.shape[1:])
    z = _standardised(inputs, scaler)
    exponent = layers.Dense(len(vectors))
    near = layers.Activation("exponential")(exponent(layers.Concatenate()([z, layers.Dot(axes=1)([z, z])])))
    kernel = np.vstack([2 * gamma * vectors.T, np.full((1, len(vectors)), -gamma)])
    exponent.set_weights([kernel, -gamma * np.square(vectors).sum(axis=1)])
    return _ended(inputs, near, model.dual_coef_[0], model.intercept_[0], "svm")


def boosting(x: Floats, truth: NDArray[np.int64], weights: Floats | None, seed: int) -> keras.Model:
    """A hundred boosted trees of depth three.

    Each split gives 0 (left) or 1 (right); a leaf is reached where all splits on its way go its way, which a Dense
    layer of 1 and -1 counts; the output adds the values of the leaves that are reached.
    """
    model = GradientBoostingClassifier(max_features="sqrt", random_state=seed).fit(x, truth, sample_weight=weights)
    trees = [tree.tree_ for tree in model.estimators_[:, 0]]
    splits = [(number, node) for number, tree in enumerate(trees) for node in np.flatnonzero(tree.children_left >= 0)]
    place = {split: at for at, split in enumerate(splits)}
    leaves = [(number, leaf, way) for number, tree in enumerate(trees) for leaf, way in _ways(tree)]
    kernel, bias = np.zeros((len(splits), len(leaves))), np.ones(len(leaves))
    for at, (number, _, way) in enumerate(leaves):
        for node, right in way:
            kernel[place[number, node], at] = 1 if right else -1
            bias[at] -= right  # a split to the left counts where it gives 0
    features = [int(trees[number].feature[node]) for number, node in splits]
    thresholds = _rounded_down(np.array([trees[number].threshold[node] for number, node in splits]))
    inputs = keras.Input(x.shape[1:])
    beyond = layers.Rescaling(1.0, offset=(-thresholds).tolist())(keras.ops.take(inputs, np.array(features, int), 1))
    reached = layers.Dense(len(leaves), activation="relu")
    is_reached = reached(keras.ops.relu(keras.ops.sign(beyond)))
    reached.set_weights([kernel, bias])
    values = [model.learning_rate * trees[number].value[leaf, 0, 0] for number, leaf, _ in leaves]
    prior = model.init_.class_prior_
    return _ended(inputs, is_reached, np.array(values), np.log(prior[1] / prior[0]), "boosting")


HEADS: dict[str, Callable[[Floats, NDArray[np.int64], Floats | None, int], keras.Model]] = {
    "logistic": logistic,
    "svm": svm,
    "boosting": boosting,
}


def _ended(inputs: Any, last: Any, kernel: Floats, bias: float, name: str) -> keras.Model:
    """A model that ends in a sigmoid of known weights, into which calibration is folded as in any other."""
    output = layers.Dense(1, activation="sigmoid")
    model = keras.Model(inputs, output(last), name=name)
    output.set_weights([kernel[:, np.newaxis], np.array([bias])])
    return model


def _standardised(inputs: Any, scaler: StandardScaler) -> Any:
    return layers.Rescaling((1 / scaler.scale_).tolist(), offset=(-scaler.mean_ / scaler.scale_).tolist())(inputs)


def _ways(tree: Any, node: int = 0) -> list[tuple[int, list[tuple[int, bool]]]]:
    """Each leaf below a node of scikit-learn's tree, with the splits on the way to it: (node, whether to the right)."""
    if tree.children_left[node] < 0:
        return [(node, [])]
    sides = ((tree.children_left[node], False), (tree.children_right[node], True))
    return [(leaf, [(node, right), *way]) for child, right in sides for leaf, way in _ways(tree, child)]


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The next float32 at or below: a float32 is at or below the one where it is at or below the other."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)
