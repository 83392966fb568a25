"""`prepared` pixels (or `features`) into a model bundle: Petastorm into tf.data into Keras.

spark-submit jobs/train.py --prepared /tables/prepared --bundle /models/pneumonia-1 --network residual --epochs 30
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pneumospark.config import NOT_FOR_DIAGNOSIS, TrainConfig
from pneumospark.io import backbones, bundle, tracking
from pneumospark.io.copies import Copies
from pneumospark.io.engines import OpenvinoForm, openvino_form
from pneumospark.io.files import Store, canonical, scratch_folder, store_of
from pneumospark.io.run import Counts, log, run, versions
from pneumospark.io.session import session
from pneumospark.io.stock import Stock, patients, pixel_rows, take_stock
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.learn.recipe import check
from pneumospark.settings import parse
from pneumospark.tables.workers import Worker, on_workers
from pneumospark.targets import TARGETS

PLACES = (
    *("bundle", "prepared", "features", "version", "backbone", "members"),
    *("cache_folder", "cache_gigabytes", "tensorboard", "mlflow"),
)
"""Settings that say where something is: a recipe is the same with other places."""

COMPARED = 64
"""Validation images on which TensorFlow and OpenVINO must agree."""

AUDITED = 20_000
"""Images, at most, by which shortcuts are told."""


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(TrainConfig, argv)
    check(config)
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
    recipe = {key: value for key, value in asdict(config).items() if key not in PLACES}
    backbone = backbones.find(config.backbone, store) if config.backbone else None
    spec = backbones.read_spec(stock.uri, stock.version, store)
    facts: Counts = {"spec": spec.to_dict(), "labels": [NORMAL, PNEUMONIA], "recipe": recipe, "data": stock.facts()}
    facts["backbone"] = backbone.identity if backbone else None
    members = [bundle.read(canonical(member), store) for member in config.members]
    bundle.check_members(members, spec, config.members)
    facts["members"] = [member.model_id for member in members]
    rows = {split: census.rows for split, census in stock.census.items()}
    log.info("train: %s, rows %s, %d without a label for this", stock.uri, rows, stock.unlabelled)
    if model_id := bundle.trained_already(target, facts, store):
        return {"bundle": target, "model_id": model_id, "rows": rows, "epochs": 0}
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
    from pneumospark.learn.validated import validated
    from pneumospark.learn.weights import weighted

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
        history, epoch_rows = _train_on_workers(config, model, (training, validation), checkpoint)
    else:
        model, history = trainer.train(
            config, build, batches, unshuffled, audits, trainer.Checkpoint(checkpoint.save, saved)
        )
    found, probability = validated(model, unshuffled, lambda: validation.patients, config)
    facts |= found
    validation.audit()
    facts["generalisation"] = _generalisation(config, stock, shape, model, store) if config.prepared else None
    facts["reference"] = _reference(stock, shape, probability, store)
    facts |= {"history": history, "notice": NOT_FOR_DIAGNOSIS}
    facts["versions"] = versions("tensorflow", "keras", "petastorm", "numpy", "pillow")
    if config.features:
        model = network.composed(backbones.read_backbone(stock.uri, stock.version, store), model)
    seen = epoch_rows or [census.rows for census in training.seen]
    form = None if config.features else _openvino_form(stock, shape, model, store)
    model_id = bundle.write(canonical(config.bundle), model, facts, store, form)
    checkpoint.remove()
    if config.mlflow:
        tracking.log_training(config.mlflow, canonical(config.bundle), store)
    return {
        "model_id": model_id,
        "epochs": len(history.get("loss", ())),
        "resumed_after": done,
        "epoch_rows": seen,
        "images": sum(seen),
        "validation": {name: facts["validation"][name] for name in ("roc_auc", "accuracy", "recall", "specificity")},
    }


def _train_on_workers(
    config: TrainConfig, model: Any, feeds: tuple[Any, Any], checkpoint: bundle.Checkpoint
) -> tuple[dict[str, list[float]], list[int]]:
    """Give `model` the weights that `config.workers` tasks of Spark learn; the history, and the rows of each epoch."""
    from pneumospark.io.dataset import Shard
    from pneumospark.learn.resume import packed, unpacked

    for feed in feeds:  # raises where batches are too small, here and not on an executor
        replace(feed, shard=Shard(0, config.workers)).batches(config.batch_size)
    spark = session("train")
    model.save(local := scratch_folder() / bundle.MODEL)
    content = spark.sparkContext.broadcast(local.read_bytes())

    def work(worker: Worker) -> bytes:
        from pneumospark.learn import distributed, trainer
        from pneumospark.learn.weights import weighted

        strategy = distributed.strategy(worker.index, worker.addresses, worker.cpus)
        saved, rows = checkpoint.saved(), list[int]()
        shard, done = Shard(worker.index, config.workers), trainer.epochs_done(saved)
        training, validation = (replace(feed, shard=shard, done=done, seen=[]) for feed in feeds)
        batches = training.batches(config.batch_size, config.shuffle_rows)
        if config.class_weights == "balanced":
            batches = weighted(batches, training.stock.labels["train"], [NORMAL, PNEUMONIA])
        (scratch := scratch_folder() / bundle.MODEL).write_bytes(content.value)
        learned, history = distributed.train(
            config,
            distributed.Team(strategy, worker.gather),
            partial(bundle.load_model, scratch),
            (batches, validation.batches(config.batch_size)),
            (lambda: rows.append(training.audit(worker.gather)), lambda: validation.audit(worker.gather)),
            trainer.Checkpoint(checkpoint.save, saved),
        )
        return packed({"weights": learned.get_weights()}, {"history": history, "rows": rows})

    (weights,), facts = unpacked(on_workers(spark, config.workers, work), "weights")
    model.set_weights(weights)
    return facts["history"], facts["rows"]


def _generalisation(config: TrainConfig, stock: Stock, shape: tuple[int, ...], model: Any, store: Store) -> Any:
    """Figures that tell lungs from shortcuts; None, with a word in the log, where there are too few patients."""
    from pneumospark.learn.generalisation import generalisation
    from pneumospark.learn.trainer import forward

    rows = pixel_rows(stock, store, ("train", "validation"), AUDITED)
    try:
        ask, target = forward(model), stock.target
        told = ask if target.is_binary else lambda pixels: target.pneumonia(ask(pixels))
        figures = generalisation(rows, told, shape, config.seed)
    except ValueError as error:
        log.warning("train: shortcuts cannot be told: %s", error)
        return None
    log.info("train: counter-shortcut part %s", figures["counter_shortcut"])
    return figures


def _openvino_form(stock: Stock, shape: tuple[int, ...], model: Any, store: Store) -> OpenvinoForm | None:
    """The network for OpenVINO, compared on validation images; None, with a word in the log, where it cannot be had."""
    rows = islice(pixel_rows(stock, store, ("validation",), AUDITED), COMPARED)
    pixels = np.stack([np.frombuffer(row["pixels"], np.uint8).reshape(shape) for row in rows])
    try:
        form = openvino_form(model, pixels)
    except Exception as error:  # whatever a converter says of a network, the bundle is whole without this form
        log.warning("train: no form for OpenVINO, score will use TensorFlow: %s: %s", type(error).__name__, error)
        return None
    log.info("train: OpenVINO differs by %.1g at most", form.facts["largest_difference"])
    return form


def _reference(stock: Stock, shape: tuple[int, ...], probability: Any, store: Store) -> Any:
    """What later runs of score are compared with; None, with a word in the log, where there are too few images."""
    from pneumospark.learn import drift

    figures = {drift.PROBABILITY: probability}
    if stock.column == "pixels":
        figures |= drift.statistics(pixel_rows(stock, store, ("validation",), AUDITED), shape)
    try:
        return drift.reference(figures, patients(stock, store, "validation"))
    except ValueError as error:
        log.warning("train: drift cannot be told of this model: %s", error)
        return None


if __name__ == "__main__":
    sys.exit(run("train", main))
