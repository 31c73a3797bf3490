"""Where settings come from, and how a value that does not fit is told."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from quarterdeck.config.settings import CHECKS, ConfigError, Settings
from quarterdeck.config.values import mask_password
from quarterdeck.domain.duration import parse_duration

ENV_PREFIX = "QUARTERDECK_"
CONFIG_VARIABLE = "QUARTERDECK_CONFIG"
DEFAULT_FILE = Path("quarterdeck.toml")
CLIENT_NAMES = ("url", "api_key")
"""Read from the environment by the client commands; no settings of the service."""

_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
# Kubernetes sets these in every pod for each Service whose name begins with "quarterdeck"; they are not ours to refuse.
_SERVICE_LINK = re.compile(
    r"QUARTERDECK_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"QUARTERDECK_(\w+_)?PORT=(tcp|udp|sctp)://.*")

S = TypeVar("S", bound=msgspec.Struct)
_Given = tuple[object, str]  # a value, and in words where it came from


class Loaded(msgspec.Struct, Generic[S], frozen=True):
    """Checked settings, and by the name of each where its value came from, in words."""

    settings: S
    origin: dict[str, str]


class SettingInfo(msgspec.Struct, frozen=True):
    """What the manual says about a setting; `type` is in words, with the range and the unit."""

    name: str
    env: str
    type: str
    default: object
    description: str
    secret: bool


class _Field(msgspec.Struct, frozen=True):
    info: SettingInfo
    type: Any
    optional: bool
    choice: bool
    duration: bool


def load(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Loaded[Settings]:
    """Gather the settings and check them.

    A flag that is None was not given, and neither was an optional setting that is empty in the environment. `file` is
    the one named on the command line, which must exist, as must one named by `QUARTERDECK_CONFIG`; `quarterdeck.toml`
    in the working directory need not. `environ` is the process's own where it is not given.

    Raises:
        ConfigError: an unknown name, a value that does not fit, a file that is missing or cannot be read.
    """
    return _load(Settings, flags or {}, os.environ if environ is None else environ, file)


def settings_table() -> list[SettingInfo]:
    """Describe every setting, in the order in which `Settings` names them."""
    return [field.info for field in _fields(Settings).values()]


def client_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what the environment says about the service to talk to: `url` and `api_key`, each only if it is given.

    Raises:
        ConfigError: a file named by a `*_FILE` variable cannot be read, or the variable itself is set too.
    """
    environ = os.environ if environ is None else environ
    found = {name: _from_variable(_variable(name), environ) for name in CLIENT_NAMES}
    return {name: given[0] for name, given in found.items() if given is not None and given[0]}


def _load(kind: type[S], flags: Mapping[str, object], environ: Mapping[str, str], file: Path | None) -> Loaded[S]:
    fields = _fields(kind)
    given = {
        **_from_file(fields, environ, file),
        **_from_environment(fields, environ),
        **_from_flags(fields, flags),
    }
    values: dict[str, Any] = {}
    for name, (value, origin) in given.items():
        *sections, last = name.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = _checked(fields[name], value, origin)
    origins = {name: given[name][1] if name in given else "default" for name in fields}
    return Loaded(msgspec.convert(values, kind), origins)


def _from_flags(fields: Mapping[str, _Field], flags: Mapping[str, object]) -> dict[str, _Given]:
    for name in flags:
        if name not in fields:
            raise ConfigError(f"unknown flag --{name.replace('_', '-')}{_nearest(name, fields)}")
    return {name: (value, _flag(name)) for name, value in flags.items() if value is not None}


def _flag(name: str) -> str:
    return "argument APP" if name == "app" else f"flag --{name.replace('_', '-')}"


def _from_environment(fields: Mapping[str, _Field], environ: Mapping[str, str]) -> dict[str, _Given]:
    variables = [field.info.env for field in fields.values()] + [_variable(name) for name in CLIENT_NAMES]
    known = {CONFIG_VARIABLE, *variables, *(f"{variable}_FILE" for variable in variables)}
    for variable, text in environ.items():
        if variable.startswith(ENV_PREFIX) and variable not in known and not _is_service_link(variable, text):
            raise ConfigError(f"unknown environment variable {variable}{_nearest(variable, known)}")
    found = {name: _from_variable(field.info.env, environ) for name, field in fields.items()}
    return {name: given for name, given in found.items() if given and (given[0] or not fields[name].optional)}


def _from_variable(variable: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    text, path = environ.get(variable), environ.get(f"{variable}_FILE")
    if not path:
        return None if text is None else (text, f"environment {variable}")
    if text:
        raise ConfigError(f"{variable} and {variable}_FILE are both set; give one of them")
    try:
        text = Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{variable}_FILE = {path!r} cannot be read: {_reason(error)}") from None
    if not text:
        raise ConfigError(f"{variable}_FILE = {path!r} is empty")
    return text, f"file {path} ({variable}_FILE)"


def _from_file(fields: Mapping[str, _Field], environ: Mapping[str, str], file: Path | None) -> dict[str, _Given]:
    named = file or environ.get(CONFIG_VARIABLE)
    if not named and not DEFAULT_FILE.exists():
        return {}
    path = Path(named or DEFAULT_FILE)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the settings file {path} cannot be read: {_reason(error)}") from None
    found = dict(_flat(table, fields))
    for name in found:
        if name not in fields:
            raise ConfigError(f"unknown setting {name!r} in {path}{_nearest(name, fields)}")
    return {name: (value, f"file {path}") for name, value in found.items()}


def _flat(table: Mapping[str, object], fields: Iterable[str], section: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        name = section + key
        if isinstance(value, dict) and any(field.startswith(f"{name}.") for field in fields):
            yield from _flat(value, fields, f"{name}.")
        else:
            yield name, value


def _checked(field: _Field, value: object, origin: str) -> object:
    """Return `value` as what the setting holds."""
    try:
        return _converted(field, value)
    except msgspec.ValidationError:
        reason = f"expected {field.info.type}"
    except ValueError as error:
        reason = str(error)
    raise ConfigError(f"{field.info.name}{_shown(field.info, value)} (from {origin}): {reason}")


def _converted(field: _Field, value: object) -> object:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("text must not hold a NUL character")
        if field.choice:
            value = value.lower()
    if field.duration:
        # The environment holds nothing but text, so there a bare number is one of seconds.
        value = parse_duration(float(value) if isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value) else value)
    converted = msgspec.convert(value, field.type, strict=not isinstance(value, str))
    if converted is not None and field.info.name in CHECKS:
        CHECKS[field.info.name](converted)
    return converted


def _shown(info: SettingInfo, value: object) -> str:
    if not info.secret:
        return f" = {value!r}"
    # A mistyped word is shown, for `embedded`; of anything else only what is known not to be the password.
    is_url = info.name in ("database_url", "bus")
    if is_url and isinstance(value, str) and ("://" in value or value.isalpha() or not value):
        return f" = {mask_password(value)!r}"
    return ""


@cache
def _fields(kind: type[msgspec.Struct], section: str = "") -> dict[str, _Field]:
    """Return the fields of `kind` and of its sections, by dotted name."""
    found: dict[str, _Field] = {}
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= _fields(field.type, f"{section}{field.name}.")
            continue
        meta = inspect.type_info(field.type)
        if not isinstance(meta, inspect.Metadata) or not meta.extra_json_schema:
            raise TypeError(f"{kind.__name__}.{field.name} has no description")
        extra = meta.extra or {}
        words, optional = _in_words(meta.type, duration="duration" in extra)
        name = section + field.name
        description = meta.extra_json_schema["description"]
        info = SettingInfo(name, _variable(name), words, field.default, description, "secret" in extra)
        found[name] = _Field(info, field.type, optional, words.startswith("one of"), "duration" in extra)
    return found


def _in_words(kind: inspect.Type, *, duration: bool) -> tuple[str, bool]:
    """Return what values of `kind` are, and whether None is one."""
    optional = isinstance(kind, inspect.UnionType)
    if isinstance(kind, inspect.UnionType):
        (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
    match kind:
        case inspect.LiteralType(values):
            words = f"one of {', '.join(map(str, values))}"
        case inspect.IntType(ge=least, le=most):
            words = f"a whole number from {least} to {most}"
        case inspect.FloatType(ge=least, le=most):
            words = f"a {'duration' if duration else 'number'} from {least} to {most}{' seconds' * duration}"
        case inspect.BoolType():
            words = "true or false"
        case inspect.StrType(min_length=1):
            words = "text that is not empty"
        case _:
            words = "text"
    return words, optional


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper().replace(".", "__")


def _is_service_link(variable: str, text: str) -> bool:
    # Told from a user's QUARTERDECK_PORT=8000, which must be refused, by the URL that Kubernetes puts there.
    return bool(_SERVICE_LINK.fullmatch(variable) or _SERVICE_URL.fullmatch(f"{variable}={text}"))


def _nearest(name: str, names: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {nearest[0]}?" if nearest else "; `qd config show` lists all settings"


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
