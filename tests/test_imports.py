"""The house's rules: imports go downward, and heavy packages stay out of the rooms that must not know them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_import_rules_are_kept() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("tables.predictions", "tensorflow"),
        ("tables.predictions", "fsspec"),
        ("learn.metrics", "pyspark"),
        ("learn.calibrate", "tensorflow"),
        ("io.bundle", "tensorflow"),  # a driver that only ships a bundle does not pay for TensorFlow
        ("pixels.prepare", "pyspark"),
        ("config", "pyspark"),
    ],
)
def test_a_room_does_not_load_what_it_must_not_know(module: str, absent: str) -> None:
    code = f"import sys, pneumospark.{module}; sys.exit('{absent}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.tensorflow
def test_the_trainer_does_not_load_spark() -> None:
    code = "import sys, pneumospark.learn.trainer; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
