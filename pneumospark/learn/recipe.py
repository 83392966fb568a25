"""Which settings of a training go together."""

from importlib.util import find_spec

from pneumospark.config import TrainConfig
from pneumospark.errors import ConfigError
from pneumospark.learn.calibrate import check_rule

OF_NETWORKS = (
    *("network", "frozen", "head_epochs", "finetune_rate", "augment", "augment_without"),
    *("batch_normalisation", "mean_normalised", "l1", "l2"),
)
OF_TRAINING = (
    *("dropout", "epochs", "optimizer", "learning_rate", "schedule", "patience", "label_smoothing", "precision"),
    *("devices", "workers", "tensorboard"),
)


def without_effect(recipe: TrainConfig) -> frozenset[str]:
    """Settings that do nothing for what a recipe asks for: a head of features, a classical one, an ensemble."""
    if recipe.members:
        return frozenset((*OF_NETWORKS, *OF_TRAINING, "backbone", "head", "class_weights", "shuffle_rows"))
    if recipe.features:
        return frozenset((*OF_NETWORKS, *(OF_TRAINING if recipe.head != "dense" else ())))
    return frozenset()


def check(recipe: TrainConfig) -> None:
    """Raise ConfigError for settings that contradict each other, before hours of training."""
    check_rule(recipe.threshold)
    _check_outputs(recipe)
    if bool(recipe.prepared) == bool(recipe.features):
        raise ConfigError("train: expected either --prepared or --features")
    if recipe.members and not recipe.prepared:
        raise ConfigError("train: --members are networks for images: expected --prepared, got --features")
    if not recipe.members and bool(recipe.backbone) != (recipe.network == "finetuned"):
        raise ConfigError("train: --network finetuned and --backbone belong together")
    if recipe.workers > 1 and (recipe.devices or recipe.tensorboard):
        raise ConfigError("train.workers: expected no --devices and no --tensorboard: a worker takes its first GPU")
    if recipe.head_epochs and recipe.network != "finetuned":
        raise ConfigError("train: --head-epochs: expected --network finetuned, which has a backbone to keep at rest")
    if recipe.finetune_rate and not recipe.head_epochs:
        raise ConfigError("train: --finetune-rate: expected --head-epochs before it; else --learning-rate is that rate")
    if recipe.frozen and recipe.network != "finetuned":
        raise ConfigError("train: --frozen: expected --network finetuned, which has a backbone to freeze")
    if recipe.head_epochs >= recipe.epochs:
        raise ConfigError(
            f"train: --head-epochs: expected fewer than the {recipe.epochs} of --epochs, got {recipe.head_epochs}"
        )
    options = ("batch_normalisation", "mean_normalised", "l1", "l2")
    if (recipe.network != "published" or recipe.features or recipe.members) and any(
        given := [name for name in options if getattr(recipe, name)]
    ):
        raise ConfigError(f"train: {', '.join(given)}: expected --network published, which has these options")
    if recipe.augment_without and recipe.augment == "none":
        raise ConfigError("train: --augment-without: expected an --augment that has parts to leave out, got none")
    if "://" in (recipe.tensorboard or ""):
        raise ConfigError(f"train.tensorboard: expected a local folder, got {recipe.tensorboard!r}")
    if recipe.tensorboard and not find_spec("tensorboard"):
        raise ConfigError("train.tensorboard: expected the package tensorboard: pip install tensorboard")


def _check_outputs(recipe: TrainConfig) -> None:
    if recipe.head != "dense" and not recipe.features:
        raise ConfigError(f"train: --head {recipe.head} learns on features: expected --features")
    if recipe.target != "pneumonia" and (recipe.members or recipe.head != "dense"):
        raise ConfigError(f"train: --target {recipe.target}: ensembles and classical heads are for --target pneumonia")
    if recipe.workers > 1 and (recipe.target != "pneumonia" or recipe.head != "dense"):
        raise ConfigError("train.workers: expected --target pneumonia and --head dense")
    if recipe.target == "findings" and recipe.class_weights != "none":
        raise ConfigError("train: --class-weights: findings are no classes: expected --target pneumonia or kind")
