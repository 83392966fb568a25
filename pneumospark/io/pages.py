"""Pages for people: jinja2 templates of this folder into one HTML file each, which opens offline."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from PIL import Image

NOTICE = "Research software, not for diagnosis."
THUMBNAIL = 224
"""The longest side of a picture in a page, in pixels."""


def render(template: str, **values: Any) -> str:
    """A page from a template that extends `page.html.j2`, which wants `title` and `facts` (name -> text) itself.

    Text from outside stays text. Raises jinja2's UndefinedError for a value that the template needs and did not get.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pneumospark", "io"),
        autoescape=True,  # paths and facts come from outside
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=figure, interval=interval, svg=svg, thumbnail=thumbnail)
    return environment.get_template(template).render(notice=NOTICE, **values)


def encoded(page: str) -> bytes:
    """A page as UTF-8; a file name that is not UTF-8 reaches Python as lone surrogates, which no encoding takes."""
    return page.encode(errors="backslashreplace")


def figure(value: float | None) -> str:
    """A figure with three decimals."""
    return "undefined" if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    """An interval with three decimals."""
    return "undefined" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def svg(picture: bytes) -> str:
    """A plot as a URL that holds it."""
    return f"data:image/svg+xml;base64,{b64encode(picture).decode()}"


def thumbnail(pixels: npt.NDArray[np.uint8]) -> str:
    """Pixels, (height, width) or (height, width, 3), as a URL that holds them as a JPEG."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    with BytesIO() as file:
        image.save(file, "JPEG", quality=85)
        return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
