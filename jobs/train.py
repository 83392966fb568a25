"""`prepared` pixels (or `features`) into a model bundle: Petastorm into tf.data into Keras.

spark-submit jobs/train.py --prepared /tables/prepared --bundle /models/pneumonia-1 --network residual --epochs 30
"""

import sys
from dataclasses import asdict
from typing import Any

from pneumospark.config import NOT_FOR_DIAGNOSIS, TrainConfig, parse
from pneumospark.errors import ConfigError
from pneumospark.io import bundle
from pneumospark.io.dataset import Feed, feature_length, take_stock
from pneumospark.io.files import canonical, store_of
from pneumospark.io.run import Counts, log, run, versions
from pneumospark.io.session import session
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.learn import network, trainer
from pneumospark.learn.calibrate import calibrate, check_rule
from pneumospark.learn.metrics import metrics


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(TrainConfig, argv)
    if bool(config.prepared) == bool(config.features):
        raise ConfigError("train: expected either --prepared or --features")
    check_rule(config.threshold)
    store, target = store_of(session("train")), canonical(config.bundle)
    uri, column = canonical(str(config.prepared or config.features)), "pixels" if config.prepared else "features"
    stock = take_stock(uri, column, store, config.version)
    spec = bundle.read_spec(uri, stock.version, store)
    shape = spec.shape if config.prepared else (feature_length(uri, store),)
    recipe = {key: value for key, value in asdict(config).items() if key not in ("bundle", "prepared", "features", "version")}
    facts: dict[str, Any] = {"spec": spec.to_dict(), "labels": [NORMAL, PNEUMONIA], "recipe": recipe, "data": stock.facts()}
    rows = {split: census.rows for split, census in stock.census.items()}
    if model_id := bundle.trained_already(target, facts, store):
        return {"bundle": target, "model_id": model_id, "rows": rows, "epochs": 0}

    log.info("train: %s on %s, rows %s, without a label of these %d", config.network, uri, rows, stock.unlabelled)
    training, validation = Feed(stock, "train", shape, store, config.seed), Feed(stock, "validation", shape, store)
    unshuffled = validation.batches(config.batch_size)
    model, history = trainer.train(
        config,
        config.network if config.prepared else "head",
        shape,
        training.batches(config.batch_size, config.shuffle_rows),
        unshuffled,
        trainer.balanced(*(stock.labels["train"][label] for label in (NORMAL, PNEUMONIA))),
        lambda: (training.audit(), validation.audit()),
    )
    truth, probability = trainer.predict(model, unshuffled)
    calibrated, operating = calibrate(model, truth, probability, config.threshold)
    figures = metrics(truth, calibrated, operating["threshold"]["value"])
    facts |= operating | {"validation": figures, "history": history, "notice": NOT_FOR_DIAGNOSIS}
    facts["versions"] = versions("tensorflow", "keras", "petastorm", "numpy", "pillow")
    whole = network.composed(bundle.read_backbone(uri, stock.version, store), model) if config.features else model
    model_id = bundle.write(target, whole, facts, store)
    seen = [census.rows for census in training.seen]
    validated = {name: figures[name] for name in ("roc_auc", "accuracy", "recall", "specificity")}
    return {"bundle": target, "model_id": model_id, "rows": rows, "epochs": len(seen), "epoch_rows": seen, "images": sum(seen), "validation": validated}


if __name__ == "__main__":
    sys.exit(run("train", main))
