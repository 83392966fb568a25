"""One frozen dataclass per job, filled from defaults, a TOML file, `--set section.key=value` and flags, the last one wins."""

import argparse
import difflib
import tomllib
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pneumospark.errors import ConfigError
from pneumospark.spec import ImageSpec

LAYOUTS = ("auto", "folders", "nih", "manifest", "dicom")
GIVEN = ("given", "given-test", "ignore")
NETWORKS = ("published", "residual")
NOT_FOR_DIAGNOSIS = "Research software: not for diagnosis."


def option(text: str, default: Any = MISSING, choices: Sequence[str] = ()) -> Any:
    """A field of a job's config: its help text, its default (required without one) and the values it may take."""
    return field(default=default, metadata={"help": text, "choices": tuple(choices)})


@dataclass(frozen=True)
class IngestConfig:
    """Files of a source into `images`; those that are no images into `quarantine`."""

    source: str = option("folder of X-rays, or one file: a path, file:, hdfs: or s3a: URI; searched to any depth")
    images: str = option("table of images to write or to add to")
    quarantine: str = option("table of refused files to write or to add to")
    layout: str = option("how files tell their labels", "auto", LAYOUTS)
    labels: str | None = option(
        "CSV or Parquet with the labels, where the layout has one (default: found by name)", None
    )
    splits: str = option(
        "given: splits that folders or lists give are kept, the rest goes by patient; given-test: only a given test is "
        "kept, train and validation are drawn by patient; ignore: all by patient",
        "given",
        GIVEN,
    )
    shares: tuple[float, ...] = option("shares of train, validation, test where the patient decides", (0.7, 0.15, 0.15))
    salt: str = option("another salt draws other patients into each split", "")
    max_pixels: int = option("a file that declares more pixels is refused", 100_000_000)


@dataclass(frozen=True)
class ExtractConfig:
    """`images` into `prepared` pixels of one image spec, and CNN features of these where asked for."""

    images: str = option("table of images to read")
    prepared: str = option("table of prepared images to write or to add to")
    features: str | None = option("table of features to write or to add to", None)
    backbone: str | None = option(
        "what makes the features: a .keras file, a bundle, or the name of a Keras application (its weights are fetched)",
        None,
    )
    batch_size: int = option("images per forward pass of the backbone", 32)


@dataclass(frozen=True)
class TrainConfig:
    """`prepared` (or `features`) into a model bundle, read through Petastorm."""

    bundle: str = option("folder of the model bundle to write")
    prepared: str | None = option("table of prepared images to learn from", None)
    features: str | None = option("table of features to learn from, instead of --prepared", None)
    version: str | None = option("which rows, where the table holds those of several specs or backbones", None)
    network: str = option(
        "published: the CNN of the published method, 500 x 500; residual: small, any size", "residual", NETWORKS
    )
    epochs: int = option("passes over the training split at most", 30)
    seed: int = option("of weights, order and augmentation", 0)
    batch_size: int = option("images per step", 32)
    learning_rate: float = option("of Adam at the start", 1e-3)
    patience: int = option("epochs without a better validation loss before training stops", 5)
    augment: bool = option("small random shifts, turns, zooms, and changes of contrast and brightness", True)
    threshold: str = option("0.5 | youden | sensitivity=0.95: how validation chooses the operating point", "youden")
    shuffle_rows: int = option("rows in the shuffle buffer", 2048)
    devices: tuple[str, ...] = option("devices to spread each batch over (default: every GPU there is)", ())


@dataclass(frozen=True)
class ScoreConfig:
    """Files of a source into `predictions` by one bundle; those that are no images into `quarantine`."""

    source: str = option("folder of X-rays, or one file: a path, file:, hdfs: or s3a: URI; searched to any depth")
    bundle: str = option("model bundle to score with")
    predictions: str = option("table of predictions to write or to add to")
    quarantine: str = option("table of refused files to write or to add to")
    batch_size: int = option("images per forward pass", 32)
    max_pixels: int = option("a file that declares more pixels is refused", 100_000_000)


@dataclass(frozen=True)
class EvaluateConfig:
    """`predictions` against the labels of `images`: metrics.json and index.html."""

    predictions: str = option("table of predictions to judge")
    images: str = option("table of images that has the labels")
    report: str = option("folder for index.html and metrics.json")
    split: str = option(
        "split to judge (auto: test where there is one, else validation)",
        "auto",
        ("auto", "train", "validation", "test", "all"),
    )
    model_id: str | None = option("model to judge, where predictions hold several", None)


JOBS: dict[str, type[Any]] = {
    "ingest": IngestConfig,
    "extract": ExtractConfig,
    "train": TrainConfig,
    "score": ScoreConfig,
    "evaluate": EvaluateConfig,
}
SECTIONS: dict[str, type[Any]] = {"image": ImageSpec, **JOBS}
Values = dict[str, dict[str, Any]]
Config = TypeVar("Config")


def parse(job: type[Config], argv: Sequence[str] | None = None) -> tuple[Config, ImageSpec]:
    """The job's config and the image spec, from the command line; raises ConfigError for what is unknown or missing."""
    section = next(name for name, kind in JOBS.items() if kind is job)
    flags = vars(_parser(section, job).parse_args(argv))
    layers = [_read_toml(flags.pop("config", None)), *map(_parse_set, flags.pop("set", None) or ()), {section: flags}]
    values: Values = {name: {} for name in SECTIONS}
    for layer in layers:
        for name, keys in layer.items():
            values[_known(name, SECTIONS, "section")].update(_checked(name, keys))
    return _build(section, values[section]), _build("image", values["image"])


def _parser(section: str, job: type[Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"spark-submit jobs/{section}.py",
        description=f"{job.__doc__} {NOT_FOR_DIAGNOSIS}",
        argument_default=argparse.SUPPRESS,
    )
    for entry in fields(job):
        default = "required" if _required(entry) else f"default: {_show(entry.default)}"
        choices = entry.metadata["choices"]
        value = "{" + ",".join(choices) + "}" if choices else entry.name.upper()
        parser.add_argument(
            f"--{entry.name.replace('_', '-')}",
            dest=entry.name,
            metavar=value,
            help=f"{entry.metadata['help']} ({default})",
        )
    parser.add_argument("--config", metavar="FILE.toml", help="settings of all jobs, as in conf/pipeline.toml")
    parser.add_argument(
        "--set",
        action="append",
        metavar="SECTION.KEY=VALUE",
        help=f"one setting; sections: {', '.join(SECTIONS)}; may be repeated",
    )
    return parser


def _required(entry: "Field[Any]") -> bool:
    return entry.default is MISSING


def _show(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value) or "none"


def _read_toml(path: str | None) -> Values:
    if path is None:
        return {}
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"--config {path}: {error}") from error


def _parse_set(text: str) -> Values:
    name, equals, value = text.partition("=")
    section, dot, key = name.partition(".")
    if not (equals and dot):
        raise ConfigError(f"--set {text}: expected section.key=value")
    return {section: {key: value}}


def _known(name: str, known: Any, kind: str) -> str:
    if name in known:
        return name
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise ConfigError(f"unknown {kind} {name!r}: did you mean {nearest!r}? Known: {', '.join(known)}")


def _checked(section: str, keys: Any) -> dict[str, Any]:
    if not isinstance(keys, dict):
        raise ConfigError(f"{section}: expected a section of keys, got {keys!r}")
    hints = get_type_hints(SECTIONS[section])
    entries = {entry.name: entry for entry in fields(SECTIONS[section])}
    return {
        _known(key, entries, f"key of [{section}]"): _convert(f"{section}.{key}", value, hints[key], entries[key])
        for key, value in keys.items()
    }


def _convert(name: str, value: Any, hint: Any, entry: "Field[Any]") -> Any:
    """The value as the field's type: text from the command line is parsed, a TOML value must be of that type."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    try:
        if get_origin(hint) is tuple:
            items = value.split(",") if isinstance(value, str) else list(value)
            converted: Any = tuple(_scalar(item, get_args(hint)[0]) for item in items if item != "")
        else:
            converted = _scalar(value, hint)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{name}: expected {getattr(hint, '__name__', hint)}, got {value!r}") from error
    if (choices := entry.metadata.get("choices")) and converted not in choices:
        nearest = difflib.get_close_matches(str(converted), choices, n=1, cutoff=0.0)[0]
        raise ConfigError(f"{name}: expected one of {', '.join(choices)}, got {converted!r}: did you mean {nearest!r}?")
    return converted


def _scalar(value: Any, kind: type) -> Any:
    if kind is bool:
        return (
            {"true": True, "false": False}[str(value).lower()]
            if str(value).lower() in ("true", "false")
            else _refuse(value)
        )
    if isinstance(value, str):
        return kind(value.strip()) if kind is not str else value
    if isinstance(value, bool) or not isinstance(
        value, int if kind is int else (int, float) if kind is float else kind
    ):
        return _refuse(value)
    return kind(value)


def _refuse(value: Any) -> Any:
    raise ValueError(value)


def _build(section: str, values: dict[str, Any]) -> Any:
    missing = [entry.name for entry in fields(SECTIONS[section]) if _required(entry) and entry.name not in values]
    if missing:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise ConfigError(f"{section}: missing {flags} (or the same keys under [{section}] of the --config file)")
    return SECTIONS[section](**values)
