"""Configuration files: strict TOML, checked against a model; unknown keys are errors."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from finsecure_crypto.errors import ConfigurationError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from finsecure_rpc.resource_names import ID

_MOST_BYTES = 1 << 20
_MOST_PROBLEMS = 8


class Settings(BaseModel):
    """Base of all configuration models: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _beside_config(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return path if folder is None else Path(folder) / path.expanduser()


RelativePath = Annotated[Path, AfterValidator(_beside_config)]
"""A path; a relative one counts from the folder of the configuration file."""


def _database_url(value: str, info: ValidationInfo) -> str:
    if re.match(r"[a-z0-9+]+://", value):
        return value
    folder = (info.context or {}).get("folder", ".")
    return f"sqlite:///{folder}/{value}" if not value.startswith("/") else f"sqlite:///{value}"


DatabaseUrl = Annotated[str, Field(min_length=1), AfterValidator(_database_url)]
"""URL of a database; a plain path means an SQLite file, and counts as `RelativePath` does."""

Id = Annotated[str, Field(pattern=f"^{ID}$")]
IdPattern = Annotated[str, Field(pattern=r"^[a-z0-9*?\[\]!-]{1,40}$")]
"""Ids with the wildcards of a shell."""

Address = Annotated[
    str,
    Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$", max_length=255),
]
"""`host:port`."""

ManagedKey = Annotated[str, Field(pattern=f"^federations/{ID}/keyRings/{ID}/cryptoKeys/{ID}$")]
"""Resource name of a key that the key service manages."""

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class MemberSettings(Settings):
    """Who a member of a federation is, and where its key service is.

    Attributes:
        federation: id of the federation.
        identity_dir: folder of keys and certificates.
        root: the pinned root certificate, as given out of band.
        keyservice: address of the key service.
        keyservice_enrol: address of its enrolment listener.
    """

    federation: Id
    identity_dir: RelativePath
    root: RelativePath
    keyservice: Address
    keyservice_enrol: Address


Model = TypeVar("Model", bound=BaseModel)


def load(path: Path, model: type[Model]) -> Model:
    """Read a configuration file.

    Raises:
        ConfigurationError: CONFIG_MISSING or CONFIG_INVALID, naming the file, each wrong key and
            what is allowed instead; the fault of the file's owner.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError(
            "CONFIG_MISSING", f"There is no configuration file {path}: give its path by --config."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            "CONFIG_INVALID", f"The configuration file {path} cannot be read: {error.strerror}."
        ) from error
    try:
        if len(text) > _MOST_BYTES:
            raise ValueError("it is over 1 MiB")
        content = tomllib.loads(text.decode())
    except ValueError as error:
        raise ConfigurationError(
            "CONFIG_INVALID", f"The configuration file {path} is not TOML: {error}."
        ) from error
    try:
        return model.model_validate(content, context={"folder": str(path.resolve().parent)})
    except ValidationError as error:
        # Unknown keys first: a key that was misspelt is what another one is missing for.
        found = sorted(
            error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden"
        )
        problems = "; ".join(_problem(item, model) for item in found[:_MOST_PROBLEMS])
        if len(found) > _MOST_PROBLEMS:
            problems += f"; and {len(found) - _MOST_PROBLEMS} more"
        raise ConfigurationError("CONFIG_INVALID", f"In {path}: {problems}.") from error


def _problem(item: object, model: type[BaseModel]) -> str:
    assert isinstance(item, dict)  # noqa: S101  # pydantic's ErrorDetails
    place = item["loc"]
    key = ".".join(str(part) for part in place)
    if item["type"] == "extra_forbidden":
        allowed = sorted(_section(model, place[:-1]))
        return f"unknown key {key}" + (f" (allowed here: {', '.join(allowed)})" if allowed else "")
    return f"{key or 'the file'}: {item['msg']}"


def _section(model: type[BaseModel], place: tuple[str | int, ...]) -> set[str]:
    """Names of the keys that are allowed in a section of the file."""
    for part in place:
        if isinstance(part, int):
            continue
        inner = model.model_fields.get(part)
        kind = None if inner is None else inner.annotation
        candidates = [kind, *getattr(kind, "__args__", ())]
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if len(found) != 1:
            return set()
        model = found[0]
    return {field.alias or name for name, field in model.model_fields.items()}
