"""What can be set: one frozen dataclass per job, whose fields carry their help, their values and their bounds."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any

from pneumospark.spec import ImageSpec

LAYOUTS = ("auto", "folders", "nih", "manifest", "rsna", "dicom")
PATHS = ("plain", "hashed")
GIVEN = ("given", "given-test", "ignore")
NETWORKS = ("published", "residual", "residual-v2", "finetuned")
AUGMENTATIONS = ("none", "light", "robust", "published")
SCHEDULES = ("plateau", "cosine")
ENGINES = ("auto", "tensorflow", "openvino")
LOG_FORMATS = ("text", "json")
TARGETS = ("pneumonia", "kind", "findings")
HEADS = ("dense", "logistic", "svm", "boosting")
OPTIMIZERS = ("adam", "sgd")
CLASS_WEIGHTS = ("none", "balanced")
CALIBRATIONS = ("platt", "temperature", "none")
PRECISIONS = ("auto", "float32", "mixed")
NOT_FOR_DIAGNOSIS = "Research software: not for diagnosis."


def option(text: str, default: Any = MISSING, choices: Sequence[str] = (), value: str = "", **bounds: float) -> Any:
    """A field of a job's config: help text, default (required without one), the values it may take, or their bounds.

    `value` is what `--help` shows for the value. Bounds are `least` and `most`.
    """
    return field(default=default, metadata={"help": text, "choices": tuple(choices), "value": value, **bounds})


def uri(text: str, default: Any = MISSING) -> Any:
    """A field that takes a place in a store."""
    return option(text, default, value="URI")


def uris(text: str) -> Any:
    """A field that takes tables, none by default."""
    return option(f"tables {text}", (), value="URI,...")


def key_file() -> Any:
    """A field that names the file of the secret, which is never on the command line itself, where all can read it."""
    return uri("file that holds the secret which hides patient ids and paths; else PNEUMOSPARK_PATIENT_KEY", None)


def shown_paths() -> Any:
    """A field that says how the tables keep the paths of files."""
    return option("hashed: the tables keep a keyed hash of each path, since paths can hold names", "plain", PATHS)


def largest() -> Any:
    """A field for the size from which a file is refused."""
    return option("a file that declares more pixels is refused", 100_000_000, least=1)


def retry() -> Any:
    """A field that asks for another look at refused files."""
    return option("try files again that were refused and have not changed since", False)


def gate() -> Any:
    """A field for the share of refused files that fails a run."""
    text = "per cent of the files looked at: with more of them refused (and 10 at least) the run writes all and fails"
    return option(text, 5.0, least=0, most=100)


def subjects() -> Any:
    """A field for what DICOM files may show."""
    return option(
        "DICOM files to refuse: modality: those whose header names another one than that of radiographs, or raw data "
        "of a detector; chest: also those of another body part; none",
        "modality",
        ("none", "modality", "chest"),
    )


def texts() -> Any:
    """A field for DICOM files whose picture may show a name."""
    return option(
        "DICOM files whose header says that text is part of the picture", "quarantine", ("quarantine", "keep")
    )


@dataclass(frozen=True)
class IngestConfig:
    """Files of a source into `images`; those that are no images into `quarantine`."""

    source: str = uri("folder of X-rays, or one file: a path, file:, hdfs: or s3a: URI; searched to any depth")
    images: str = uri("table of images to write or to add to")
    quarantine: str = uri("table of refused files to write or to add to")
    layout: str = option("how files tell their labels", "auto", LAYOUTS)
    labels: str | None = uri("CSV or Parquet with the labels, where the layout has one, if not found by name", None)
    splits: str = option(
        "given: splits that folders or lists give are kept, the rest goes by patient; given-test: only a given test is "
        "kept, train and validation are drawn by patient; ignore: all by patient",
        "given",
        GIVEN,
    )
    shares: tuple[float, ...] = option(
        "shares of train, validation, test where the patient decides", (0.7, 0.15, 0.15), value="X,X,X"
    )
    salt: str = option("another salt draws other patients into each split", "")
    max_pixels: int = largest()
    retry_quarantine: bool = retry()
    max_quarantined: float = gate()
    patient_key_file: str | None = key_file()
    paths: str = shown_paths()
    dicom_check: str = subjects()
    burned_in: str = texts()


@dataclass(frozen=True)
class ExtractConfig:
    """`images` into `prepared` pixels of one image spec, and CNN features of these where asked for."""

    images: str = uri("table of images to read")
    prepared: str = uri("table of prepared images to write or to add to")
    features: str | None = uri("table of features to write or to add to", None)
    backbone: str | None = option(
        "what makes the features: a .keras file, a bundle, or a Keras application's name (its weights are fetched)",
        None,
        value="URI-or-name",
    )
    batch_size: int = option("images per forward pass of the backbone", 32, least=1)


@dataclass(frozen=True)
class TrainConfig:
    """`prepared` (or `features`) into a model bundle, read through Petastorm."""

    bundle: str = uri("folder of the model bundle to write")
    prepared: str | None = uri("table of prepared images to learn from", None)
    features: str | None = uri("table of features to learn from, instead of --prepared", None)
    version: str | None = option(
        "which rows, where the table holds several: a spec's fingerprint, a backbone's id", None, value="ID"
    )
    target: str = option(
        "what is told: pneumonia or not; kind: normal, bacterial or viral; findings: each of NIH's 14, where known",
        "pneumonia",
        TARGETS,
    )
    network: str = option(
        "published: the CNN of the published method, 500 x 500; residual: small, any size; residual-v2: its like with "
        "bottlenecks; finetuned: a backbone that learns on",
        "residual",
        NETWORKS,
    )
    backbone: str | None = option(
        "what --network finetuned starts from: a .keras file, a bundle, or a Keras application's name",
        None,
        value="URI-or-name",
    )
    head: str = option(
        "what learns on --features: dense: one hidden layer; logistic regression; svm: a support vector machine; "
        "boosting: boosted trees",
        "dense",
        HEADS,
    )
    members: tuple[str, ...] = option(
        "bundles whose mean is the new one: nothing is trained, it is calibrated and its threshold chosen",
        (),
        value="URI,URI,...",
    )
    frozen: float = option(
        "share of the backbone's layers, from the input on, that learn nothing", 0.0, least=0, most=1
    )
    head_epochs: int = option(
        "so many epochs of --network finetuned come first in which only its new head learns", 0, least=0
    )
    finetune_rate: float | None = option(
        "learning rate once the backbone learns, too, after --head-epochs; a tenth of --learning-rate if not given",
        None,
        least=1e-9,
    )
    dropout: float | None = option(
        "share of what goes into the output (published: of each dense layer) that is dropped in training; not given: "
        "the network's own, none for published",
        None,
        least=0,
        most=0.95,
    )
    batch_normalisation: bool = option("of --network published: after each convolution", False)
    l1: float = option("of --network published: penalty on the size of kernels", 0.0, least=0)
    l2: float = option("of --network published: penalty on the square of kernels", 0.0, least=0)
    mean_normalised: bool = option("of --network published: each image less its own mean", False)
    epochs: int = option("passes over the training split at most", 30, least=1)
    seed: int = option("of weights, order and augmentation", 0, least=0)
    batch_size: int = option("images per step", 32, least=1)
    optimizer: str = option("sgd: with Nesterov's momentum of 0.9", "adam", OPTIMIZERS)
    learning_rate: float = option("of the optimizer at the start", 1e-4, least=1e-9)
    class_weights: str = option(
        "balanced: each class of the training split weighs the same; none: each image", "none", CLASS_WEIGHTS
    )
    precision: str = option(
        "mixed: bfloat16 while it learns, the bundle stays float32; auto: that where every GPU multiplies it, never on "
        "a CPU",
        "auto",
        PRECISIONS,
    )
    schedule: str = option(
        "plateau: the rate falls when the validation loss does not, training stops early and keeps the best weights; "
        "cosine: the rate falls to 0 over all epochs, and the last weights are kept",
        "plateau",
        SCHEDULES,
    )
    patience: int = option("epochs without a better validation loss before --schedule plateau stops", 3, least=0)
    label_smoothing: float = option("how far targets are drawn from 0 and 1 towards one half", 0.0, least=0, most=1)
    augment: str = option(
        "random changes of training images. light: small turns, shifts, zooms, contrast, brightness; robust: wide "
        "ones, with stretch, blur and noise; published: those of the published method",
        "light",
        AUGMENTATIONS,
    )
    augment_without: tuple[str, ...] = option(
        "parts of --augment to leave out, to see what each is good for: turn, zoom, shift, shear, resolution, gamma, "
        "contrast, brightness, noise, flips",
        (),
        value="PART,PART,...",
    )
    calibration: str = option(
        "by validation. platt: of the logit, a temperature and a bias; temperature: that alone; none: probabilities "
        "stay as the network gives them",
        "platt",
        CALIBRATIONS,
    )
    threshold: str = option(
        "how validation chooses the operating point; costs=FN:FP: what a missed pneumonia and a false alarm cost",
        "youden",
        value="0.5|youden|sensitivity=0.95|costs=5:1",
    )
    shuffle_rows: int = option("rows in the shuffle buffer; 0 shuffles row groups only", 2048, least=0)
    workers: int = option(
        "Spark tasks that train together, each on its part of each batch; 1: the driver trains alone", 1, least=1
    )
    cache_folder: str | None = option(
        "on a local disk: the feed copies the table's files there and reads the store in the first epoch only",
        None,
        value="FOLDER",
    )
    cache_gigabytes: float = option("that these copies take at most, of all tables together", 100.0, least=0)
    devices: tuple[str, ...] = option(
        "to spread each batch over, as TensorFlow names them; none: all GPUs", (), value="DEVICE,..."
    )
    tensorboard: str | None = option("local folder for TensorBoard's log of each epoch", None, value="FOLDER")
    mlflow: str | None = uri("MLflow to log the training to when it is done; sqlite:///FILE needs no server", None)


@dataclass(frozen=True)
class ScoreConfig:
    """Files of a source, or of a table, into `predictions` by a bundle; those that are no images into `quarantine`."""

    bundle: str = uri("model bundle to score with, or models:/NAME@ALIAS of an MLflow registry")
    predictions: str = uri("table of predictions to write or to add to")
    quarantine: str = uri("table of refused files to write or to add to")
    engine: str = option(
        "what runs the network. openvino: faster on most CPUs, and starts in a second; auto: it where the bundle has a "
        "form for it, and of both the faster one where there are many files; tensorflow: also on GPUs",
        "auto",
        ENGINES,
    )
    source: str | None = uri(
        "folder of X-rays, or one file: path, file:, hdfs: or s3a: URI; searched to any depth", None
    )
    images: str | None = uri("table of images to score instead of --source; the files are not read", None)
    prepared: str | None = uri(
        "with --images: pixels of this table, of the bundle's spec, are scored as they are", None
    )
    limit: int | None = option("files to score at most, the first by path; the next run does more", None, least=1)
    since: str | None = option(
        "leave files alone that were modified before this time (ISO 8601; UTC unless it says otherwise)",
        None,
        value="TIME",
    )
    run_id: str | None = option("the run's id ends with this: letters, digits, . _ -", None, value="NAME")
    dry_run: bool = option("count what would be scored, and write nothing", False)
    batch_size: int = option("images per forward pass", 32, least=1)
    max_pixels: int = largest()
    retry_quarantine: bool = retry()
    max_quarantined: float = gate()
    patient_key_file: str | None = key_file()
    paths: str = shown_paths()
    dicom_check: str = subjects()
    burned_in: str = texts()
    drift: str = option(
        "where images or probabilities are unlike those of the model's validation. fail: exit code 4, once all is "
        "written; report: say so in the summary; off: take no statistics",
        "fail",
        ("fail", "report", "off"),
    )
    drift_psi: float = option("population stability index above which a figure has drifted", 0.25, least=0)
    drift_ks: float = option("difference of two distributions (Kolmogorov-Smirnov) above which it has", 0.2, least=0)
    drift_chance: float = option(
        "share of runs that may be called drifted where nothing has changed: few images must differ more",
        0.001,
        least=1e-12,
        most=1,
    )
    drift_page: str | None = uri("HTML page over the last runs to write, of drift and counts", None)
    explain: str = option(
        "images to explain by Grad-CAM, into --explanations: none, those called pneumonia, or all",
        "none",
        ("none", "positives", "all"),
    )
    explanations: str | None = uri("table of explanations to write or to add to", None)
    summary: str | None = uri("file to write the run's summary to as well, as JSON", None)


@dataclass(frozen=True)
class EvaluateConfig:
    """`predictions` against the labels of `images`: figures with intervals, as metrics.json and index.html."""

    predictions: str = uri("table of predictions to judge")
    images: str = uri("table of images that has the labels")
    report: str = uri("folder for index.html and metrics.json")
    split: str = option(
        "split to judge (auto: test where there is one, else validation)",
        "auto",
        ("auto", "train", "validation", "test", "all"),
    )
    model_id: str | None = option("model to judge, where predictions hold several", None, value="ID")
    against: str | None = option(
        "a second model of the same predictions, to compare on the same images", None, value="ID"
    )
    subgroups: tuple[str, ...] = option(
        "columns of images, or further ones of its manifest, to judge group by group",
        ("findings", "source"),
        value="COLUMN,...",
    )
    prevalence: float = option("share of pneumonia among those examined, for PPV and NPV", 0.1, least=1e-6)
    resamples: int = option("of patients, for the bootstrap's intervals; 0: none", 2000, least=0)
    seed: int = option("of these resamples", 0, least=0)
    external_predictions: tuple[str, ...] = uris("of other hospitals, scored with the same bundle, to judge beside")
    external_images: tuple[str, ...] = uris("of --external-predictions, one each, in the same order")
    bundle: str | None = uri("the model's bundle: its pixels, and where it looked, for the worst errors", None)


@dataclass(frozen=True)
class QualityConfig:
    """What is in `images`: counts, leaks, near duplicates, and how well facts that are no medicine tell the label."""

    images: str = uri("table of images to look at")
    report: str = uri("folder for index.html, quality.json and shortcuts.png")
    quarantine: str | None = uri("table of refused files, to count them by reason", None)
    near: int = option(
        "report images of two splits whose perceptual hashes differ in at most so many of 256 bits, up to 24: beyond, "
        "too many would be missed; -1 looks for none, and decodes the sample only",
        24,
        least=-1,
        most=24,
    )
    sample: int = option("images that the shortcut audit draws at most", 20_000, least=1)
    warn: float = option(
        "area under the ROC curve from which a shortcut is a warning, 0.5 to 1", 0.8, least=0.5, most=1
    )
    seed: int = option("of the audit's folds", 0, least=0)


JOBS: dict[str, type[Any]] = {
    "ingest": IngestConfig,
    "extract": ExtractConfig,
    "train": TrainConfig,
    "score": ScoreConfig,
    "evaluate": EvaluateConfig,
    "quality": QualityConfig,
}
SECTIONS: dict[str, type[Any]] = {"image": ImageSpec, **JOBS}
