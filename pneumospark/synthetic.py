"""A synthetic chest X-ray corpus for demo and tests: drawings of nobody, in the folders of Kermany et al. 2018."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from pneumospark.errors import SourceError

Grid = npt.NDArray[np.float64]
"""Height x width: a coordinate (x to the right, y down, the image height being 2) or a density (0 is air)."""

LABELS = ("NORMAL", "PNEUMONIA")
TRUNCATED = "PNEUMONIA/synthetic-truncated.jpeg"
NOT_AN_IMAGE = "NORMAL/synthetic-not-an-image.jpeg"
IMAGE_SHARES = (0.1, 0.2, 0.3, 0.4)  # of the patients, with 1, 2, 3 and 4 images: 3 on average


@dataclass(frozen=True)
class Body:
    """What all images of one patient share; lengths in halves of the image height."""

    chest: float  # half the width of the rib cage
    dome: float  # y of the diaphragm
    heart: float  # radius
    rib_gap: float
    rib_arch: float  # curvature of a rib
    flesh: float  # density at the middle of the trunk
    bone: float  # density of a rib

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Body":
        """A body of an ordinary build."""
        return cls(
            chest=rng.uniform(0.68, 0.88),
            dome=rng.uniform(0.42, 0.62),
            heart=rng.uniform(0.27, 0.40),
            rib_gap=rng.uniform(0.15, 0.21),
            rib_arch=rng.uniform(0.6, 1.0),
            flesh=rng.uniform(0.85, 1.15),
            bone=rng.uniform(0.13, 0.20),
        )


def draw(rng: np.random.Generator, pneumonia: bool, size: int = 256, body: Body | None = None) -> npt.NDArray[np.uint8]:
    """Draw one frontal chest X-ray: uint8, 0 to 255, grey, `size` x 0.95 to 1.15 `size`; white is dense.

    Both classes carry extra density in the lungs: a pneumonia gathered in one to three hazy opacities, a normal chest
    spread evenly, as in a shallow breath. So no brightness, contrast or size of the whole image gives the class away,
    as they do in real data sets (see tests/test_synthetic.py); only where the density lies.
    """
    body = body or Body.sample(rng)
    x, y = _pose(rng, size)
    flesh, lungs, heart = _flesh(x, y, body), _lungs(x, y, body), _heart(x, y, body)
    air = lungs * (1 - heart) * flesh
    haze = _opacities(rng, x, y, air)
    if not pneumonia:
        # The full amount would keep the mean but lower the contrast; three quarters keep both (AUC 0.51 and 0.54).
        haze = np.full_like(haze, 0.75 * (haze * air).sum() / air.sum())
    density = flesh + 0.25 * heart + _bones(x, y, body) + lungs * _vessels(rng, x, y)
    return _stamp(_expose(rng, density - rng.uniform(0.65, 0.95) * air * (1 - haze)))


def _pose(rng: np.random.Generator, size: int) -> tuple[Grid, Grid]:
    """The coordinates x and y of every pixel in the patient's frame: a little turned, moved and zoomed."""
    half = rng.uniform(0.95, 1.15)
    y, x = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-half, half, round(half * size)), indexing="ij")
    turn, zoom = rng.normal(0, 0.02), rng.uniform(0.96, 1.04)
    right, down = rng.normal(0, 0.02, 2)
    return zoom * (x * np.cos(turn) - y * np.sin(turn)) + right, zoom * (x * np.sin(turn) + y * np.cos(turn)) + down


def _inside(distance: Grid, softness: float = 0.012) -> Grid:
    """0 to 1 over a soft edge: 1 where the distance to the outline is positive."""
    return np.asarray(expit(distance / softness))


def _bump(distance: Grid, width: float) -> Grid:
    """0 to 1: a bell around distance 0."""
    return np.asarray(np.exp(-((distance / width) ** 2)))


def _radius(x: Grid, y: Grid, wide: float, high: float, power: float = 2) -> Grid:
    """0 at the origin, 1 on the ellipse of these half axes; a power above 2 makes it boxier."""
    return np.asarray((np.abs(x / wide) ** power + np.abs(y / high) ** power) ** (1 / power))


def _cage(x: Grid, y: Grid, body: Body) -> Grid:
    """Radius in the egg of the rib cage: 1 on the chest wall."""
    return _radius(x, y - 0.22, body.chest, 0.98, power=2.4)


def _below_dome(x: Grid, y: Grid, body: Body) -> Grid:
    """How far a point lies below the diaphragm, which the liver lifts a little on the patient's right."""
    liver = 0.05 * np.tanh(5 * x)
    return np.asarray(y - body.dome - 0.9 * (np.abs(x) - 0.3) ** 2 - liver)


def _flesh(x: Grid, y: Grid, body: Body) -> Grid:
    """Trunk, shoulders, neck and abdomen, thickest in the middle."""
    half = body.chest * 1.2 + 0.3 * _bump(y + 0.5, 0.25)  # the shoulders widen the trunk
    shoulder_line = -0.64 - 0.03 / (np.abs(x) + 0.01) ** 1.5  # a hyperbola leaves the neck standing
    thickness = 0.45 + 0.55 * np.sqrt(np.clip(1 - (x / half) ** 2, 0, 1))
    abdomen = _inside(_below_dome(x, y, body), 0.02) * _inside(1.05 - _cage(x, y, body), 0.05)
    trunk = _inside(half - np.abs(x), 0.02) * _inside(y - shoulder_line, 0.02)
    return np.asarray(body.flesh * thickness * trunk * (0.8 + 0.3 * abdomen))


def _lungs(x: Grid, y: Grid, body: Body) -> Grid:
    """0 to 1: both lungs, between chest wall, mediastinum and diaphragm, fullest away from the wall."""
    cage = _cage(x, y, body)
    fullness: Grid = 1 - 0.35 * cage.clip(0, 1) ** 4
    return fullness * _inside(0.93 - cage) * _inside(np.abs(x) - 0.13, 0.02) * _inside(-_below_dome(x, y, body))


def _heart(x: Grid, y: Grid, body: Body) -> Grid:
    """0 to 1: an ellipse that leans to the patient's left, the right of the image, and the great vessels above it."""
    right, down = x - 0.12, y - body.dome + 0.18
    along, across = 0.75 * right + 0.66 * down, 0.75 * down - 0.66 * right
    muscle = _inside(1 - _radius(along, across, 1.15 * body.heart, 0.85 * body.heart), 0.07)
    vessels = _inside(1 - _radius(x - 0.06, y + 0.12, 0.17, 0.3), 0.1)
    return np.maximum(muscle, vessels)


def _bones(x: Grid, y: Grid, body: Body) -> Grid:
    """Spine, ribs and collar bones."""
    side, cage = np.abs(x), _cage(x, y, body)
    spine = _inside(0.085 - side) * (0.75 + 0.25 * np.cos(2 * np.pi * y / 0.14)) * 0.25
    windpipe = 0.2 * _bump(x, 0.04) * _inside(-0.25 - y, 0.05)
    back = _bands(y - body.rib_arch * (1 - 0.4 * y) * (side - 0.2) ** 2, body.rib_gap)
    front = _bands(y + 0.6 * (side - 0.5) + 0.4 * (side - 0.5) ** 2, body.rib_gap * 1.15) * _inside(side - 0.35, 0.06)
    wall = 0.6 + 0.6 * _bump(cage - 0.94, 0.07)  # seen edge-on at the chest wall, a rib is denser
    ribs = body.bone * (back + 0.45 * front) * wall * _inside(0.98 - cage) * _inside(side - 0.07)
    collar_line = y + 0.48 + 0.30 * side - 0.03 * np.sin(7 * side)
    collar = _bump(collar_line, 0.03) * _inside(side - 0.08) * _inside(body.chest - side)
    return np.asarray(spine - windpipe + ribs + 1.2 * body.bone * collar)


def _bands(height: Grid, gap: float) -> Grid:
    """0 to 1: a band at each multiple of `gap`, brighter at its rims as cortical bone is."""
    offset = (height / gap - np.round(height / gap)) / 0.24
    return np.asarray(_bump(offset**2, 1) * (0.7 + 0.5 * offset**2))


def _vessels(rng: np.random.Generator, x: Grid, y: Grid) -> Grid:
    """Streaks of blood vessels that leave each hilum and thin out."""
    side, wobble = np.abs(x) - 0.17, _clouds(rng, x.shape, 0.03)
    distance = _radius(side, y, 1, 1)
    angle = np.arctan2(y, side) + 0.15 * wobble + 2 * np.pi * (x > 0)  # the two lungs take different streaks
    streaks = np.interp(angle, np.linspace(-4, 10, 260), rng.random(260) ** 5)
    return np.asarray(0.3 * streaks * np.exp(-distance / 0.28) + 0.14 * _bump(distance, 0.13))


def _opacities(rng: np.random.Generator, x: Grid, y: Grid, air: Grid) -> Grid:
    """0 to 1: the share of the air that one to three infiltrates displace, lobar (wide) or patchy (small, ragged)."""
    clear = np.ones_like(x)
    for _ in range(rng.integers(1, 4)):
        centre = rng.choice(air.size, p=(air / air.sum()).ravel())
        lobar = rng.random() < 0.5
        wide, high = rng.uniform(0.22, 0.34, 2) if lobar else rng.uniform(0.14, 0.22, 2)
        ragged = (0.2 if lobar else 0.45) * _clouds(rng, x.shape, 0.035)
        radius = _radius(x - x.flat[centre], y - y.flat[centre], wide, high) + ragged
        clear *= 1 - rng.uniform(0.7, 0.95) * _bump(radius.clip(0), 1)
    return 1 - clear


def _clouds(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Grid:
    """Smooth noise of mean 0 and deviation 1; `scale` is the size of a cloud as a share of the image height."""
    noise = gaussian_filter(rng.standard_normal(shape), scale * shape[0], mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std())


def _expose(rng: np.random.Generator, density: Grid) -> npt.NDArray[np.uint8]:
    """Blur, film response, dose, fog and grain of one exposure, drawn without a look at the class."""
    blur, dose, steepness, fog, grain = rng.uniform((0.002, 0.5, 1.8, 0.0, 0.01), (0.004, 0.75, 2.4, 0.05, 0.03))
    film = 1 / (1 + (dose / gaussian_filter(density, blur * density.shape[0]).clip(1e-3)) ** steepness)
    film = fog + (1 - fog) * film + grain * rng.standard_normal(density.shape)
    return np.asarray((255 * film).clip(0, 255), dtype=np.uint8)


def _stamp(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The image with "synthetic" in the corner of the lead marker, so that nobody takes it for a patient's."""
    image = Image.fromarray(pixels)
    font = ImageFont.load_default(size=max(8, image.height // 20))
    ImageDraw.Draw(image).text((image.height // 40, image.height // 60), "synthetic", fill=215, font=font)
    return np.array(image)


def write_corpus(folder: Path, patients: int = 60, seed: int = 0) -> dict[str, int]:
    """Write about 3 images per patient, 2 patients of 5 normal, and count the files: NORMAL, PNEUMONIA and broken.

    The same arguments give the same bytes, with the same NumPy and Pillow. A corpus that is there already is left
    alone, whatever its seed, and a new one appears under its name only when complete. Raises SourceError for fewer
    than 2 patients, which would leave a class empty, and where the folder holds something else.
    """
    if patients < 2:
        raise SourceError(f"synthetic corpus: expected 2 patients or more, got {patients}")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A hidden neighbour, since a rename is atomic within one file system only.
        with TemporaryDirectory(prefix=".synthetic-", dir=folder.parent) as staging:
            draft = Path(staging) / folder.name
            for patient in range(1, patients + 1):
                _write_patient(draft, patient, np.random.default_rng([seed, patient]))
            _write_oddities(draft)
            draft.rename(folder)
    return _count(folder)


def _write_patient(folder: Path, patient: int, rng: np.random.Generator) -> None:
    """Write the one to four images of one patient, some of them PNG, into the folder of the class."""
    pneumonia = patient % 5 > 1
    place = folder / LABELS[pneumonia]
    place.mkdir(parents=True, exist_ok=True)
    body = Body.sample(rng)
    for number in range(1, 1 + rng.choice([1, 2, 3, 4], p=IMAGE_SHARES)):
        pixels = draw(rng, pneumonia, int(rng.integers(224, 289)), body)
        suffix = ".png" if rng.random() < 0.15 else ".jpeg"
        Image.fromarray(pixels).save(place / f"synthetic{patient:04d}-{number}{suffix}", quality=90)


def _write_oddities(folder: Path) -> None:
    """What real folders hold too: one image under two names, one PNG of 16 bits, one truncated JPEG, one text."""
    first, last = min(folder.glob("NORMAL/*")), max(folder.glob("PNEUMONIA/*"))
    shutil.copyfile(first, first.with_stem(first.stem[:-1] + "5"))  # no patient has five images, so the name is free
    deep = np.asarray(Image.open(last), dtype=np.uint16) * 257  # 0 to 65535
    last.unlink()
    Image.fromarray(deep).save(last.with_suffix(".png"))
    Image.open(first).save(folder / TRUNCATED)
    os.truncate(folder / TRUNCATED, (folder / TRUNCATED).stat().st_size // 2)
    (folder / NOT_AN_IMAGE).write_text("No image, on purpose: the synthetic corpus holds one such file.\n")


def _count(folder: Path) -> dict[str, int]:
    """Images by label, and broken files, of a complete corpus."""
    if not all((folder / name).is_file() for name in (TRUNCATED, NOT_AN_IMAGE)):
        raise SourceError(f"{folder}: expected a synthetic corpus or no such folder, got a folder of something else")
    images = {label: len(list((folder / label).glob("synthetic[0-9]*"))) for label in LABELS}
    return {**images, "broken": len(list(folder.glob("*/synthetic-*")))}
