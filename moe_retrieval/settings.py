"""Settings, with origins: flag > `MOERET_*` > `moeret.toml` > `[tool.moeret]` > user file > default."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from moe_retrieval.errors import SettingsError, did_you_mean
from moe_retrieval.types import Mode, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable

PREFIX = "MOERET_"


class Settings(BaseSettings):
    """What a run may be told. Every field is a flag, a `MOERET_*` variable and a key of `moeret.toml`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    store: Path = Field(Path(".moeret"), description="folder of the store")
    model: str = Field(
        "", description="folder or hub id of the encoder; empty: what the store was written with"
    )
    precision: Precision = Field(Precision.AUTO, description="auto, fp32 or bf16")
    device: str = Field("", description="torch device; empty: cuda where there is one, else cpu")
    max_length: int = Field(0, ge=0, le=8192, description="tokens per text; 0: the model's own limit")
    query_prompt: str = Field("", description="put before every query")
    document_prompt: str = Field("", description="put before every chunk")
    chunk_tokens: int = Field(0, ge=0, description="tokens per chunk; 0: as many as the encoder takes")
    chunk_overlap: int | None = Field(None, ge=0, description="tokens that neighbouring chunks share")
    publish_seconds: float = Field(
        30.0, gt=0, description="seconds of work between two published generations"
    )
    durable: bool = Field(True, description="make published generations survive a power cut")
    recall: float = Field(0.98, gt=0, le=1, description="recall@10 that an approximate index must reach")
    mode: Mode = Field(Mode.HYBRID, description="hybrid, vector or text")
    k: int = Field(10, ge=1, le=10_000, description="hits per query")
    mass: float = Field(0.9, gt=0, le=1, description="probability that the routed domains must hold together")
    budget: int = Field(1500, ge=1, description="tokens of an assembled context")

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
        name = str(first["loc"][0])
        raise SettingsError(
            f"{origins[name]}: {name} = {first['input']!r} is refused: {first['msg']}",
            hint=Settings.model_fields[name].description or "",
        ) from error


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
        if name.upper().startswith(PREFIX)
    }
    return [
        ("flag", flags),
        ("environment", environment),
        *((str(path), read_config(path)) for path in config_files()),
    ]
