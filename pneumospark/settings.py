"""A job's config from defaults, a TOML file, `--set section.key=value` and flags: the last wins."""

import argparse
import difflib
import tomllib
import types
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pneumospark.config import JOBS, LOG_FORMATS, NOT_FOR_DIAGNOSIS, SECTIONS
from pneumospark.errors import ConfigError
from pneumospark.spec import ImageSpec

BOOLEANS = {"true": True, "false": False}
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
METAVARS = {int: "N", float: "NUMBER", bool: "true|false"}
Values = dict[str, dict[str, Any]]
Config = TypeVar("Config")


def parse(job: type[Config], argv: Sequence[str] | None = None) -> tuple[Config, ImageSpec]:
    """The job's config and the image spec, from the command line; raises ConfigError for what is unknown or missing."""
    section = next(name for name, kind in JOBS.items() if kind is job)
    parser = _parser(section, job)
    flags, unknown = parser.parse_known_args(argv)
    for text in unknown:
        _known(text.partition("=")[0], list(parser._option_string_actions), "flag")
    given = vars(flags)
    given.pop("log_format", None)  # `io.logs` has seen to it, before anything could be said
    layers = [_read_toml(given.pop("config", None)), *map(_parse_set, given.pop("set", ())), {section: given}]
    values: Values = {name: {} for name in SECTIONS}
    for layer in layers:
        for name, keys in layer.items():
            values[_known(name, SECTIONS, "section")].update(_checked(name, keys))
    return _build(section, values[section]), _build("image", values["image"])


def _parser(section: str, job: type[Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"spark-submit jobs/{section}.py",
        usage=" ".join(["%(prog)s", *(f"{_flag(entry.name)} URI" for entry in fields(job) if _required(entry)), "..."]),
        description=f"{job.__doc__} {NOT_FOR_DIAGNOSIS}",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,  # a shortened flag in a nightly script would break when a second one begins alike
    )
    hints = get_type_hints(job)
    for entry in fields(job):
        default = "required" if _required(entry) else f"default: {_show(entry.default) or 'none'}"
        choices = entry.metadata["choices"]
        shown = "{" + ",".join(choices) + "}" if choices else entry.metadata["value"]
        parser.add_argument(
            _flag(entry.name),
            dest=entry.name,
            metavar=shown or METAVARS.get(hints[entry.name], entry.name.upper()),
            nargs="?" if hints[entry.name] is bool else None,
            const="true" if hints[entry.name] is bool else None,  # `--augment` alone says true
            help=f"{entry.metadata['help']} ({default})",
        )
    parser.add_argument("--config", metavar="FILE.toml", help="settings of all jobs, as in conf/pipeline.toml")
    parser.add_argument(
        "--log-format",
        choices=LOG_FORMATS,
        help="what goes to standard error: text, or one object of JSON a line (default: what the environment's "
        "PNEUMOSPARK_LOG_FORMAT says, to Spark as well, or text)",
    )
    parser.add_argument(
        "--set",
        action="append",
        metavar="SECTION.KEY=VALUE",
        help=f"one setting; sections: {', '.join(SECTIONS)}; repeatable. A flag wins over --set, that over --config",
    )
    return parser


def _required(entry: "Field[Any]") -> bool:
    return entry.default is MISSING


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read_toml(path: str | None) -> Values:
    if path is None:
        return {}
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not even UTF-8
        raise ConfigError(f"--config {path}: {error}") from error


def _parse_set(text: str) -> Values:
    name, equals, value = text.partition("=")
    section, dot, key = name.partition(".")
    if not (equals and dot):
        raise ConfigError(f"--set {text}: expected section.key=value")
    return {section: {key: value}}


def _known(name: str, known: Iterable[str], kind: str) -> str:
    if name in (names := list(known)):
        return name
    raise ConfigError(f"unknown {kind} {name!r}: did you mean {_nearest(name, names)!r}? Known: {', '.join(names)}")


def _nearest(name: str, names: Sequence[str]) -> str:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]


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
    many = get_origin(hint) is tuple
    kind = get_args(hint)[0] if many else hint
    try:
        if many:
            items = value.split(",") if isinstance(value, str) else list(value)
            converted: Any = tuple(_scalar(item, kind) for item in items if item != "")
        else:
            converted = _scalar(value, kind)
    except (ValueError, TypeError, KeyError) as error:
        expected = f"a list, each {KINDS[kind]}" if many else KINDS[kind]
        raise ConfigError(f"{name}: expected {expected}, got {value!r}") from error
    _check_range(name, converted, entry)
    return converted


def _check_range(name: str, value: Any, entry: "Field[Any]") -> None:
    choices, least, most = (entry.metadata.get(key) for key in ("choices", "least", "most"))
    if choices and value not in choices:
        nearest = _nearest(str(value), choices)
        raise ConfigError(f"{name}: expected one of {', '.join(choices)}, got {value!r}: did you mean {nearest!r}?")
    if least is not None and not value >= least:  # not `value < least`, which is false for NaN
        raise ConfigError(f"{name}: expected at least {least}, got {value}")
    if most is not None and not value <= most:
        raise ConfigError(f"{name}: expected at most {most}, got {value}")
    if value == "" != entry.default:  # else `--source "$UNSET"` would mean the working directory
        raise ConfigError(f"{name}: expected a value, got an empty one")


def _scalar(value: Any, kind: type) -> Any:
    """One value of a kind; raises ValueError for text that says none and for a value of another kind."""
    if isinstance(value, str) and kind is not str:
        return BOOLEANS[value.strip().lower()] if kind is bool else kind(value.strip())
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:  # type() and not isinstance: True is an int to Python, and no number to a reader
        raise ValueError(value)
    return value


def _build(section: str, values: dict[str, Any]) -> Any:
    missing = [
        _flag(entry.name) for entry in fields(SECTIONS[section]) if _required(entry) and entry.name not in values
    ]
    if missing:
        raise ConfigError(
            f"{section}: missing {', '.join(missing)} (or the same keys under [{section}] of the --config file)"
        )
    return SECTIONS[section](**values)
