"""Configuration: which layer wins, what is refused and with which words, and the file in conf/."""

import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from pneumospark.config import (
    JOBS,
    SECTIONS,
    EvaluateConfig,
    ExtractConfig,
    IngestConfig,
    QualityConfig,
    ScoreConfig,
    TrainConfig,
)
from pneumospark.errors import ConfigError
from pneumospark.settings import parse
from pneumospark.spec import ImageSpec

PIPELINE = Path(__file__).parents[1] / "conf" / "pipeline.toml"
INGEST = ("--source", "/s", "--images", "/i", "--quarantine", "/q")
TRAIN = ("--bundle", "/b", "--prepared", "/p")


def ingest(*argv: str) -> IngestConfig:
    return parse(IngestConfig, [*INGEST, *argv])[0]


def train(*argv: str) -> TrainConfig:
    return parse(TrainConfig, [*TRAIN, *argv])[0]


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    """A file of settings, as the two arguments that name it."""

    def write(text: str | bytes) -> tuple[str, str]:
        path = tmp_path / "some.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return "--config", str(path)

    return write


def test_defaults() -> None:
    assert ingest() == IngestConfig(source="/s", images="/i", quarantine="/q")
    assert ingest().shares == (0.7, 0.15, 0.15) and ingest().labels is None
    assert parse(TrainConfig, TRAIN)[1] == ImageSpec(224, 224, 1, "stretch")


def test_each_layer_wins_over_the_one_before(toml: Any) -> None:
    file = toml('[train]\nepochs = 2\nseed = 2\npatience = 2\nbundle = "/toml"\n[image]\nheight = 100\nwidth = 100\n')
    sets = ("--set", "train.seed=3", "--set", "train.patience=3", "--set", "image.width=300")
    config, spec = parse(TrainConfig, ["--prepared", "/p", *file, *sets, "--patience", "4"])
    assert (config.batch_size, config.epochs, config.seed, config.patience) == (32, 2, 3, 4)
    assert config.bundle == "/toml" and spec == ImageSpec(100, 300)


def test_layers_win_in_whatever_order_they_are_typed(toml: Any) -> None:
    assert train("--epochs", "4", "--set=train.epochs=3", *toml("[train]\nepochs = 2")).epochs == 4
    assert train("--set=train.epochs=3", *toml("[train]\nepochs = 2")).epochs == 3
    assert train("--set", "train.epochs=3", "--set", "train.epochs=5").epochs == 5


def test_required_values_may_come_from_any_layer(toml: Any) -> None:
    file = toml('[ingest]\nsource = "/toml"\n')
    config, _ = parse(IngestConfig, [*file, "--set", "ingest.images=/set", "--quarantine", "/flag"])
    assert (config.source, config.images, config.quarantine) == ("/toml", "/set", "/flag")


def test_other_jobs_sections_are_checked_and_change_nothing(toml: Any) -> None:
    assert train(*toml("[score]\nbatch_size = 7")).batch_size == 32
    with pytest.raises(ConfigError, match=r"score.batch_size: expected a whole number, got 'x'"):
        train(*toml('[score]\nbatch_size = "x"'))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--set", "imgae.height=9"], r"unknown section 'imgae': did you mean 'image'\?"),
        (
            ["--set", "image.hieght=9"],
            r"unknown key of \[image\] 'hieght': did you mean 'height'\? Known: height, width",
        ),
        (["--set", "train.epoch=9"], r"unknown key of \[train\] 'epoch': did you mean 'epochs'\?"),
        (["--epoch", "9"], r"unknown flag '--epoch': did you mean '--epochs'\?"),
        (["--bach-size=9"], r"unknown flag '--bach-size': did you mean '--batch-size'\?"),
        (["--config-file", "x"], r"unknown flag '--config-file': did you mean '--config'\?"),
        (["stray"], "unknown flag 'stray'"),
        (["--set", "height=9"], r"--set height=9: expected section\.key=value"),
        (["--set", "image.height"], r"--set image\.height: expected section\.key=value"),
        (["--set", "image.height=7"], r"image\.height: expected 8 to 4096 pixels, got 7"),
        (["--set", "image.fit=crop"], r"image\.fit: expected one of stretch, pad, got 'crop'"),
        (
            ["--network", "residul"],
            r"train\.network: expected one of published, .*got 'residul': did you mean 'residual'",
        ),
        (["--epochs", "ten"], r"train\.epochs: expected a whole number, got 'ten'"),
        (["--epochs", "2.5"], r"train\.epochs: expected a whole number, got '2\.5'"),
        (["--epochs", "0"], r"train\.epochs: expected at least 1, got 0"),
        (["--batch-size", "-1"], r"train\.batch_size: expected at least 1, got -1"),
        (["--learning-rate", "nan"], r"train\.learning_rate: expected at least 1e-09, got nan"),
        (["--label-smoothing", "1.5"], r"train\.label_smoothing: expected at most 1, got 1\.5"),
        (["--frozen", "-0.1"], r"train\.frozen: expected at least 0, got -0\.1"),
        (["--frozen", "1.5"], r"train\.frozen: expected at most 1, got 1\.5"),
        (["--learning-rate", "fast"], r"train\.learning_rate: expected a number, got 'fast'"),
        (["--augment", "lite"], r"train\.augment: expected one of .*, got 'lite': did you mean 'light'"),
        (["--set", "ingest.shares=0.5,half,0"], r"ingest\.shares: expected a list, each a number, got '0\.5,half,0'"),
        (["--bundle", ""], r"train\.bundle: expected a value, got an empty one"),
        (["--version", ""], r"train\.version: expected a value, got an empty one"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_named(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(*argv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[trian]\nepochs = 1", r"unknown section 'trian': did you mean 'train'\?"),
        ("[train]\nepohcs = 1", r"unknown key of \[train\] 'epohcs': did you mean 'epochs'\?"),
        ("epochs = 1", r"unknown section 'epochs'"),
        ("train = 1", r"train: expected a section of keys, got 1"),
        ("[train]\nepochs = 1.0", r"train\.epochs: expected a whole number, got 1\.0"),
        ("[train]\nepochs = true", r"train\.epochs: expected a whole number, got True"),
        ("[train]\nlearning_rate = true", r"train\.learning_rate: expected a number, got True"),
        ("[train]\naugment = 1", r"train\.augment: expected text, got 1"),
        ("[train]\nthreshold = 0.5", r"train\.threshold: expected text, got 0\.5"),
        ("[train]\nbundle = ['/b']", r"train\.bundle: expected text, got \['/b'\]"),
        ("[ingest]\nshares = 1", r"ingest\.shares: expected a list, each a number, got 1"),
        ("[ingest]\nshares = [1, '']\nlayout = 'x'", r"ingest\.layout: expected one of auto, folders"),
        ("[train", r"--config .*some\.toml: "),
        ("[train]\nepochs = 1\nepochs = 2", r"--config .*some\.toml: Cannot overwrite a value"),
        (b"[train]\nbundle = '\xff'", r"--config .*some\.toml: 'utf-8' codec"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(toml: Any, text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(*toml(text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config .*none\.toml: .*No such file"):
        train("--config", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"--config .*: .*Is a directory"):
        train("--config", str(tmp_path))


def test_text_becomes_the_fields_type() -> None:
    config = train("--epochs", " 7 ", "--learning-rate", "1", "--augment", "none", "--devices", "CPU:0,CPU:1")
    assert (config.epochs, config.learning_rate, config.augment) == (7, 1.0, "none")
    assert type(config.learning_rate) is float and config.devices == ("CPU:0", "CPU:1")
    assert ingest("--shares", "0.5,0.25,0.25").shares == (0.5, 0.25, 0.25)
    assert ingest("--labels", "/data/a=b.csv").labels == "/data/a=b.csv"
    assert train("--set", "train.threshold=sensitivity=0.9").threshold == "sensitivity=0.9"


def test_toml_values_become_the_fields_type(toml: Any) -> None:
    config = train(*toml("[train]\nlearning_rate = 1\ndevices = ['CPU:0']\naugment = 'none'\nversion = 'v'"))
    assert type(config.learning_rate) is float and config.devices == ("CPU:0",)
    assert config.augment == "none" and config.version == "v"
    assert train(*toml("[ingest]\nshares = [1, 0, 0.0]")).bundle == "/b"
    assert ingest(*toml("[ingest]\nshares = [1, 0, 0.0]\nsalt = ''")).shares == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("job", "missing"),
    [
        (IngestConfig, "ingest: missing --source, --images, --quarantine "),
        (ExtractConfig, "extract: missing --images, --prepared "),
        (TrainConfig, "train: missing --bundle "),
        (ScoreConfig, "score: missing --bundle, --predictions, --quarantine "),
        (EvaluateConfig, "evaluate: missing --predictions, --images, --report "),
        (QualityConfig, "quality: missing --images, --report "),
    ],
)
def test_missing_flags_are_all_named(job: type[Any], missing: str) -> None:
    with pytest.raises(ConfigError, match=rf"{missing}\(or the same keys under \[\w+\] of the --config file\)"):
        parse(job, [])


@pytest.mark.parametrize("section", JOBS)
def test_help_tells_every_flag_and_what_it_is_not_for(section: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(JOBS[section], ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "not for diagnosis" in text and f"spark-submit jobs/{section}.py" in text
    for entry in fields(JOBS[section]):
        described = re.search(rf"--{entry.name.replace('_', '-')} \S+ .*?\((required|default: [^)]+)\)", text)
        assert described, entry.name
        assert (described[1] == "required") == (entry.default is MISSING)
    for flag in (
        "--config FILE.toml",
        "--set SECTION.KEY=VALUE",
        "image, ingest, extract, train, score, evaluate, quality",
    ):
        assert flag in text


def test_help_shows_defaults_as_they_would_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(TrainConfig, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for shown in ("--seed N of weights, order and augmentation (default: 0)", "(default: light)", "(default: none)"):
        assert shown in text


@pytest.mark.parametrize("section", JOBS)
def test_the_file_in_conf_serves_every_job(section: str) -> None:
    config, spec = parse(JOBS[section], ["--config", str(PIPELINE)])
    assert spec == ImageSpec()
    for entry in fields(config):
        if entry.default is not MISSING and entry.name not in ("prepared", "source"):
            assert getattr(config, entry.name) == entry.default, entry.name


def test_the_file_in_conf_names_exactly_the_known_keys(tmp_path: Path) -> None:
    """Also those that are off, `# key = value`, for which the file has an example."""
    whole = tmp_path / "whole.toml"
    whole.write_text(re.sub(r"^# (?=\w+ = )", "", PIPELINE.read_text(), flags=re.MULTILINE))
    named = {section: list(keys) for section, keys in tomllib.loads(whole.read_text()).items()}
    known = {section: [entry.name for entry in fields(kind)] for section, kind in SECTIONS.items()}
    assert {section: sorted(keys) for section, keys in named.items()} == {s: sorted(k) for s, k in known.items()}
    for job in JOBS.values():
        parse(job, ["--config", str(whole)])


@pytest.mark.parametrize("recipe", ["published", "standard"])
def test_the_recipes_hold_only_keys_that_there_are(recipe: str) -> None:
    file = PIPELINE.with_name(f"{recipe}.toml")
    config, spec = parse(TrainConfig, ["--config", str(file), "--prepared", "/p", "--bundle", "/b"])
    given = tomllib.loads(file.read_text())
    assert {key: getattr(config, key) for key in given["train"]} == given["train"]
    assert (spec.height, spec.width) == (given["image"]["height"], given["image"]["width"])
