"""`prepared` pixels (or `features`) into a model bundle: Petastorm into tf.data into Keras.

spark-submit jobs/train.py --prepared /tables/prepared --bundle /models/pneumonia-1 --network residual --epochs 30
"""

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pneumospark.config import NOT_FOR_DIAGNOSIS, TrainConfig
from pneumospark.io import backbones, bundle, tracking
from pneumospark.io.copies import Copies
from pneumospark.io.files import Store, canonical, store_of
from pneumospark.io.run import Counts, log, run, versions
from pneumospark.io.session import session
from pneumospark.io.stock import Stock, take_stock
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.learn.recipe import check, without_effect
from pneumospark.pipeline.evidence import generalisation_of, openvino_form_of, reference_of
from pneumospark.pipeline.workers import train_on_workers
from pneumospark.settings import parse
from pneumospark.targets import TARGETS

PLACES = (
    *("bundle", "prepared", "features", "version", "backbone", "members"),
    *("cache_folder", "cache_gigabytes", "tensorboard", "mlflow"),
)
"""Settings that say where something is: a recipe is the same with other places."""


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(TrainConfig, argv)
    check(config)
    if idle := [name for name in without_effect(config) if getattr(config, name) != getattr(TrainConfig, name)]:
        log.warning("train: without effect on what is asked for: %s", ", ".join(sorted(idle)))
    if config.mlflow:
        tracking.check(config.mlflow)
    store, target = store_of(session("train")), canonical(config.bundle)
    stock = take_stock(
        canonical(str(config.prepared or config.features)),
        "pixels" if config.prepared else "features",
        store,
        config.version,
        TARGETS[config.target],
    )
    recipe = {key: value for key, value in asdict(config).items() if key not in (*PLACES, *without_effect(config))}
    backbone = backbones.find(config.backbone, store) if config.backbone else None
    spec = backbones.read_spec(stock.uri, stock.version, store)
    facts: Counts = {"spec": spec.to_dict(), "labels": [NORMAL, PNEUMONIA], "recipe": recipe, "data": stock.facts()}
    facts["backbone"] = stock.version if config.features else backbone.identity if backbone else None
    learnt = backbone or (backbones.behind(stock.uri, stock.version, store) if config.features else None)
    if learnt and learnt.knows_others(facts["data"]["splits"], config.target):
        log.warning(
            "train: backbone %s has learnt from other rows or another target; where images or patients of today's "
            "validation are among them, figures and threshold are too good to be true",
            learnt.name,
        )
    members = [bundle.read(canonical(member), store) for member in config.members]
    bundle.check_members(members, spec, facts["data"], config.members)
    facts["members"] = [member.model_id for member in members]
    rows = {split: census.rows for split, census in stock.census.items()}
    log.info("train: %s, rows %s, %d without a label for this", stock.uri, rows, stock.unlabelled)
    if model_id := bundle.trained_already(target, facts, store):
        _end(config, bundle.Checkpoint(target, facts, store), store)  # what a kill may have left to do
        return {"bundle": target, "model_id": model_id, "rows": rows, "epochs": 0}
    bundle.check_writable(target, store)
    shape = spec.shape if config.prepared else (stock.length,)
    build = partial(_network, config, shape, backbone, members)
    return {"bundle": target, "rows": rows} | _train(config, stock, shape, build, facts, store)


def _network(
    config: TrainConfig, shape: tuple[int, ...], backbone: backbones.Backbone | None, members: list[bundle.Bundle]
) -> Any:
    """The network, untrained, from (n, *shape) to (n, 1)."""
    from pneumospark.learn import cnn, network

    options = cnn.options_of(config)
    if members:
        return network.averaged([bundle.load_model(member.folder / bundle.MODEL) for member in members], shape)
    if config.features:
        return network.head(shape, options)
    if backbone:
        return network.finetuned(backbone.load(), shape, config.frozen, options)
    return cnn.NETWORKS[config.network](shape, options)


def _train(
    config: TrainConfig,
    stock: Stock,
    shape: tuple[int, ...],
    build: Callable[[], Any],
    facts: Counts,
    store: Store,
) -> Counts:
    from pneumospark.io.dataset import Feed  # TensorFlow, only where there is work for it
    from pneumospark.learn import network, trainer
    from pneumospark.learn.heads import fitted
    from pneumospark.learn.memory import keep_freed
    from pneumospark.learn.validated import validated
    from pneumospark.learn.weights import weighted

    keep_freed()
    checkpoint = bundle.Checkpoint(canonical(config.bundle), facts, store)
    saved = checkpoint.saved()
    done = trainer.epochs_done(saved)
    copies = Copies(Path(config.cache_folder), int(config.cache_gigabytes * 1e9)) if config.cache_folder else None
    training = Feed(stock, "train", shape, store, config.seed, done, copies=copies)
    validation = Feed(stock, "validation", shape, store, copies=copies)
    devices = max(1, len(trainer.devices(config)))
    batches = training.batches(config.batch_size, config.shuffle_rows, devices)
    unshuffled = validation.batches(config.batch_size, devices=devices)
    audits, history = (training.audit, validation.audit), dict[str, list[float]]()
    epoch_rows: list[int] = []
    if config.class_weights == "balanced" and config.head == "dense":
        batches = weighted(batches, stock.labels["train"], list(stock.labels["train"]))
    if config.members:
        model = build()
    elif config.head != "dense":
        model = fitted(config, batches, training.audit)
    elif config.workers > 1:
        model = trainer.initial(config, build)
        history, epoch_rows = train_on_workers(config, model, (training, validation), checkpoint)
    else:
        model, history = trainer.train(
            config, build, batches, unshuffled, audits, trainer.Checkpoint(checkpoint.save, saved)
        )
    found, probability = validated(model, unshuffled, lambda: validation.patients, config)
    facts |= found
    validation.audit()
    facts["generalisation"] = generalisation_of(config, stock, shape, model, store) if config.prepared else None
    facts["reference"] = reference_of(stock, shape, probability, store)
    facts |= {"history": history, "notice": NOT_FOR_DIAGNOSIS}
    facts["versions"] = versions("tensorflow", "keras", "petastorm", "numpy", "pillow")
    if config.features:
        model = network.composed(backbones.read_backbone(stock.uri, stock.version, store), model)
    seen = epoch_rows or [census.rows for census in training.seen]
    form = None if config.features else openvino_form_of(stock, shape, model, store)
    model_id = bundle.write(canonical(config.bundle), model, facts, store, form)
    _end(config, checkpoint, store)
    return {
        "model_id": model_id,
        "epochs": len(history.get("loss", ())),
        "resumed_after": done,
        "epoch_rows": seen,
        "images": sum(seen),
        "validation": {name: facts["validation"][name] for name in ("roc_auc", "accuracy", "recall", "specificity")},
    }


def _end(config: TrainConfig, checkpoint: bundle.Checkpoint, store: Store) -> None:
    """What comes after the bundle is whole, and is done once."""
    checkpoint.remove()
    if config.mlflow:
        tracking.log_training(config.mlflow, canonical(config.bundle), store)


if __name__ == "__main__":
    sys.exit(run("train", main))
