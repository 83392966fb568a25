"""`prepared` pixels (or `features`) into a model bundle: Petastorm into tf.data into Keras.

spark-submit jobs/train.py --prepared /tables/prepared --bundle /models/pneumonia-1 --network residual --epochs 30
"""

import sys
from dataclasses import asdict

from pneumospark.config import NOT_FOR_DIAGNOSIS, TrainConfig, parse
from pneumospark.errors import ConfigError
from pneumospark.io import bundle
from pneumospark.io.files import Store, canonical, store_of
from pneumospark.io.run import Counts, log, run, versions
from pneumospark.io.session import session
from pneumospark.io.stock import Stock, take_stock
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.learn.calibrate import calibrate, check_rule, choose_threshold
from pneumospark.learn.metrics import metrics


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(TrainConfig, argv)
    if bool(config.prepared) == bool(config.features):
        raise ConfigError("train: expected either --prepared or --features")
    check_rule(config.threshold)
    store, target = store_of(session("train")), canonical(config.bundle)
    stock = take_stock(
        canonical(str(config.prepared or config.features)),
        "pixels" if config.prepared else "features",
        store,
        config.version,
    )
    recipe = {
        key: value for key, value in asdict(config).items() if key not in ("bundle", "prepared", "features", "version")
    }
    spec = bundle.read_spec(stock.uri, stock.version, store)
    facts = {"spec": spec.to_dict(), "labels": [NORMAL, PNEUMONIA], "recipe": recipe, "data": stock.facts()}
    rows = {split: census.rows for split, census in stock.census.items()}
    log.info("train: %s, rows %s, %d without a label for this", stock.uri, rows, stock.unlabelled)
    if model_id := bundle.trained_already(target, facts, store):
        return {"bundle": target, "model_id": model_id, "rows": rows, "epochs": 0}
    return {"bundle": target, "rows": rows} | _train(config, stock, spec.shape, facts, store)


def _train(config: TrainConfig, stock: Stock, shape: tuple[int, ...], facts: Counts, store: Store) -> Counts:
    from pneumospark.io.dataset import Feed  # TensorFlow, only where there is work for it
    from pneumospark.learn import network, trainer

    name, shape = (config.network, shape) if config.prepared else ("head", (stock.length,))
    training, validation = Feed(stock, "train", shape, store, config.seed), Feed(stock, "validation", shape, store)
    devices = max(1, len(trainer.devices(config)))
    batches = training.batches(config.batch_size, config.shuffle_rows, devices)
    unshuffled = validation.batches(config.batch_size, devices=devices)
    audits = (training.audit, validation.audit)
    model, history = trainer.train(config, name, shape, batches, unshuffled, audits)
    facts["calibration"] = calibrate(model, *trainer.predict(model, unshuffled))
    truth, probability = trainer.predict(model, unshuffled)  # by the network as the bundle keeps it
    validation.audit()
    threshold = choose_threshold(truth, probability, config.threshold)
    facts["threshold"] = {"value": threshold, "rule": config.threshold, "chosen_on": "validation"}
    figures = metrics(truth, probability, threshold)
    facts |= {"validation": figures, "history": history, "notice": NOT_FOR_DIAGNOSIS}
    facts["versions"] = versions("tensorflow", "keras", "petastorm", "numpy", "pillow")
    whole = network.composed(bundle.read_backbone(stock.uri, stock.version, store), model) if config.features else model
    seen = [census.rows for census in training.seen]
    return {
        "model_id": bundle.write(canonical(config.bundle), whole, facts, store),
        "epochs": len(seen),
        "epoch_rows": seen,
        "images": sum(seen),
        "validation": {name: figures[name] for name in ("roc_auc", "accuracy", "recall", "specificity")},
    }


if __name__ == "__main__":
    sys.exit(run("train", main))
