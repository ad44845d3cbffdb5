"""Settings, with origins: flag > `MOERET_*` > `moeret.toml` > `[tool.moeret]` > user file > default."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard, get_args

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from moe_retrieval.errors import SettingsError, did_you_mean
from moe_retrieval.types import Across, Durability, EngineName, IndexEngine, Mode, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable

    from pydantic.fields import FieldInfo

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a folder"}
_BOUNDS = {"ge": " from {}", "gt": " above {}", "le": ", at most {}"}

PREFIX = "MOERET_"
DEBUG = "MOERET_DEBUG"
"""No setting: where it is set, the command line shows the traceback of an error nobody expected."""


class Settings(BaseSettings):
    """What a run may be told.

    Every field is a `MOERET_*` variable and a key of `moeret.toml`; the common ones are flags of the verbs
    that use them.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    store: Path | str = Field(Path(".moeret"), description="folder of the store, or s3://bucket/prefix")
    model: str = Field(
        "", description="folder or hub id of the encoder; empty: what the store was written with"
    )
    experts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="DOMAIN=NAME of a bundled expert, DOMAIN=FOLDER, or bundled; set apart by commas"
    )
    precision: Precision = Field(Precision.AUTO, description="auto, fp32, bf16, or int8 (onnx)")
    engine: EngineName = Field(EngineName.AUTO, description="auto, torch, openvino or onnx")
    cache: Path | None = Field(None, description="folder for exported graphs; not set: the user's cache")
    device: str = Field("", description="torch device; empty: cuda where there is one, else cpu")
    max_length: int = Field(0, ge=0, le=8192, description="tokens per text; 0: the model's own limit")
    query_prompt: str | None = Field(
        None, description="put before every query; not set: what the store records"
    )
    document_prompt: str | None = Field(
        None, description="put before every chunk; not set: what the store records"
    )
    chunk_tokens: int = Field(0, ge=0, description="tokens per chunk; 0: as many as the encoder takes")
    chunk_overlap: int | None = Field(None, ge=0, description="tokens that neighbouring chunks share")
    publish_seconds: float = Field(
        30.0, gt=0, description="seconds of work between two published generations"
    )
    durability: Durability = Field(
        Durability.POWER, description="what published generations survive: power (a power cut), or process"
    )
    lease_wait: float = Field(0.0, ge=0, description="seconds to wait while another process writes")
    index_engine: IndexEngine = Field(
        IndexEngine.AUTO, description="what searches vectors: auto, faiss or lance"
    )
    index_memory: int = Field(
        0, ge=0, description="megabytes that a search of a domain may walk through in memory; 0: any"
    )
    recall: float = Field(0.98, gt=0, le=1, description="recall@10 that an approximate index must reach")
    mode: Mode = Field(Mode.HYBRID, description="hybrid, vector or text")
    k: int = Field(10, ge=1, le=10_000, description="hits per query")
    mass: float | None = Field(
        None,
        gt=0,
        le=1,
        description="probability that the right domain is searched; not set: the router's rule",
    )
    fusion: Across = Field(Across.AUTO, description="how lists of several vector spaces become one")
    vector_weight: float | None = Field(
        None, ge=0, le=1, description="weight of the vector search; not set: as tuned, else 0.7"
    )
    budget: int = Field(1500, ge=1, description="tokens of an assembled context")
    tokenizer: str = Field(
        "",
        description="what counts them: tokenizer.json, folder, hub id, tiktoken:NAME; empty: the encoder's",
    )

    @field_validator("mode", "precision", "engine", "durability", "index_engine", "fusion", mode="before")
    @classmethod
    def _in_any_case(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("experts", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())

    @field_validator("store", "cache", mode="before")
    @classmethod
    def _place(cls, value: Any) -> Any:
        if isinstance(value, str) and "://" in value:
            return _bucket(value)
        return _folder(value) if isinstance(value, str | Path) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, the project's file, the user's file: the first that has a value wins."""
        return (init_settings, env_settings, *(_FileSource(settings_cls, place) for place in config_files()))


class _FileSource(TomlConfigSettingsSource):
    """One TOML file; inside a pyproject.toml only its table [tool.moeret]."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path) -> None:
        self.path = path
        super().__init__(settings_cls, toml_file=path)

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        return read_config(self.path)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings, and for each field where its value came from."""

    values: Settings
    origins: Mapping[str, str]


def load_settings(**flags: Any) -> Resolved:
    """The settings of this run; a flag that is None was not given.

    Raises:
        SettingsError: a name is not a setting, or a value is none it can have; the message names the origin.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    layers = _layers(given)
    origins = _origins(layers)
    try:
        return Resolved(Settings(**given), origins)
    except ValidationError as error:
        first = error.errors()[0]
        name, value = str(first["loc"][0]), first["input"]
        why = f": {first['ctx']['error']}" if first["type"] == "value_error" else ""
        raise SettingsError(
            f"{origins[name]}: {name} = {value!r} is refused{why}", hint=_next_step(name, value)
        ) from error


def _bucket(value: str) -> str:
    if not value.startswith("s3://"):
        raise ValueError("only s3:// is known")
    return value.rstrip("/")


def _folder(value: str | Path) -> Path:
    """A path that can name a folder, with `~` filled in."""
    text = str(value)
    if not text.strip():
        raise ValueError("it is empty")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("it is no valid UTF-8")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~somebody
        raise ValueError("there is no such user") from error


def _next_step(name: str, value: Any) -> str:
    """The values a setting can have, the nearest one first if these are words, and what it means."""
    field = Settings.model_fields[name]
    choices = [str(choice) for choice in field.annotation] if _is_choice(field.annotation) else []
    allowed = f"one of {', '.join(choices)}" if choices else _range(field)
    near = f"{guess} " if (guess := did_you_mean(str(value).lower(), choices)).endswith("?") else ""
    return f"{near}{name} is {allowed} ({field.description})"


def _is_choice(kind: Any) -> TypeGuard[type[StrEnum]]:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _range(field: FieldInfo) -> str:
    """What a setting that is no choice of words can be, as in: a whole number from 1 to 10000."""
    kind: Any = next((one for one in get_args(field.annotation) if one is not type(None)), field.annotation)
    ends = {name: getattr(one, name) for one in field.metadata for name in _BOUNDS if hasattr(one, name)}
    said = _KINDS.get(kind, str(kind)) + "".join(_BOUNDS[name].format(end) for name, end in ends.items())
    return said.replace(", at most", " to") if "ge" in ends else said


def config_files() -> tuple[Path, ...]:
    """Files that may hold settings, the strongest first; those that are missing are left out."""
    import platformdirs

    user = Path(platformdirs.user_config_dir("moeret"))
    places = (Path("moeret.toml"), Path("pyproject.toml"), user / "config.toml")
    return tuple(place for place in places if place.is_file())


def read_config(path: Path) -> dict[str, Any]:
    """The settings a TOML file holds."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", hint="it must be TOML in UTF-8") from error
    return _tool_table(table, path=path) if path.name == "pyproject.toml" else table


def _tool_table(table: Any, *, path: Path) -> dict[str, Any]:
    for name in ("tool", "moeret"):
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: {name} is no table", hint="settings stand below [tool.moeret]")
    return dict(table)


def _origins(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """The strongest layer that names each setting; a layer that names what is none is an error."""
    for origin, values in layers:
        for name in values:
            if name not in Settings.model_fields:
                hint = did_you_mean(name, Settings.model_fields)
                raise SettingsError(f"{origin}: no setting is called {name!r}", hint=hint)
    return {
        name: next((origin for origin, values in layers if name in values), "default")
        for name in Settings.model_fields
    }


def _layers(flags: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    environment = {  # in any case, as pydantic reads it
        name[len(PREFIX) :].lower(): value
        for name, value in os.environ.items()
        if name.upper().startswith(PREFIX) and name.upper() != DEBUG
    }
    return [
        ("flag", flags),
        ("environment", environment),
        *((str(path), read_config(path)) for path in config_files()),
    ]
