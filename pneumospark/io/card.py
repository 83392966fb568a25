"""The model card of a bundle: what its facts say, in words, for the people who are to trust it."""

import html
import re
from collections.abc import Mapping
from typing import Any

import jinja2

from pneumospark.io.pages import NOTICE, figure, interval

FIGURES = {
    "roc_auc": "area under the ROC curve",
    "recall": "sensitivity (recall)",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "precision": "precision",
    "f1": "F1",
    "specificity_at_sensitivity_0.95": "specificity at 95 % sensitivity",
    "specificity_at_sensitivity_0.972": "specificity at 97.2 % sensitivity",
    "brier": "Brier score",
    "ece": "expected calibration error",
}


def model_card(facts: Mapping[str, Any]) -> str:
    """The card as Markdown, the same for the same facts; sections that the facts say nothing of are left out."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pneumospark", "io"),
        autoescape=False,  # Markdown; text from outside goes through _text
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template("model_card.md.j2")
    shown: dict[str, Any] = {"shown": _shown, "text": _text, "figure": figure, "interval": interval}
    shown |= {"figures": _figures(facts.get("validation", {})), "chosen": _chosen(facts)}
    return template.render(facts=facts, notice=NOTICE, **shown)


def _chosen(facts: Mapping[str, Any]) -> list[str]:
    """What validation images had a say in."""
    recipe, threshold = facts.get("recipe") or {}, facts["threshold"]
    chosen = {
        "the threshold": threshold.get("chosen_on", "validation"),
        "the calibration": (facts.get("calibration") or {}).get("fitted_on"),
        "the best epoch": (facts.get("history") or {}).get("loss") and recipe.get("schedule") != "cosine",
        "what its members' cards name": facts.get("members"),
    }
    return [name for name, is_so in chosen.items() if is_so]


def _figures(validation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value, interval of the figures that validation has.

    Where resamples give a figure no interval, as one without an error, the closed form's is there and says so.
    """
    resampled = (validation.get("bootstrap") or {}).get("intervals") or {}
    closed = validation.get("intervals", {})
    shown = []
    for name, words in FIGURES.items():
        if name in validation:
            bounds = resampled.get(name) or closed.get(name)
            whose = "DeLong's" if name == "roc_auc" else "Wilson's"
            note = f" ({whose})" if resampled and bounds and not resampled.get(name) else ""
            shown.append((words, figure(validation[name]), f"{interval(bounds)}{note}" if bounds else ""))
    return shown


def _shown(value: Any) -> str:
    """A setting as text; the same whether JSON has made a list of a tuple or not."""
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or None
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else _text(str(value))


def _text(value: str) -> str:
    """Text from outside in one line of Markdown: no HTML, no link, no cell and no end of a code span is in it."""
    plain = html.escape(" ".join(value.split()).replace("`", "'"), quote=False)
    return re.sub(r"([\\*\[\]|])", r"\\\1", plain)
