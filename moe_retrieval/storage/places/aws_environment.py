"""Where a bucket is and who asks: the variables and files that every AWS program reads."""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from moe_retrieval.errors import SettingsError

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


@dataclass(frozen=True, slots=True)
class AwsEnvironment:
    """Endpoint ("" for Amazon's own), region, and the keys of a profile (empty: what the variables say).

    With neither, the roles of a machine, a container or a web identity are tried, as is usual there.
    """

    endpoint: str
    region: str
    keys: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def allow_http(self) -> bool:
        return self.endpoint.startswith("http://")

    @property
    def shown_endpoint(self) -> str:
        """The endpoint without what it may hold of a name and a password."""
        parts = urlsplit(self.endpoint)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}" if self.endpoint else ""

    def options(self) -> dict[str, str]:
        """Both as the object store client and as Lance take them."""
        given = {"aws_endpoint": self.endpoint, "aws_region": self.region} | self.keys
        return {name: value for name, value in given.items() if value}


def aws_environment() -> AwsEnvironment:
    """What the environment of this process says.

    Raises:
        SettingsError: the endpoint is no URL, or there is no such profile.
    """
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "").rstrip("/")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise SettingsError("AWS_ENDPOINT_URL is no URL", hint="it must begin with https:// or http://")
    region = next((os.environ[name] for name in _REGIONS if os.environ.get(name)), "")
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return AwsEnvironment(endpoint, region or "us-east-1")
    name = os.environ.get("AWS_PROFILE", "")
    profile = _section("AWS_SHARED_CREDENTIALS_FILE", "credentials", name or "default")
    settings = _section("AWS_CONFIG_FILE", "config", f"profile {name}" if name else "default")
    keys = {key: value for key in _KEYS if (value := profile.get(key) or settings.get(key))}
    if name and len(keys) < 2:
        raise SettingsError(
            f"the profile {name!r} holds no access key",
            hint="put its keys into the environment: aws configure export-credentials --format env",
        )
    endpoint = endpoint or settings.get("endpoint_url", "")
    return AwsEnvironment(endpoint, region or settings.get("region", "us-east-1"), keys)


def _section(variable: str, name: str, section: str) -> dict[str, str]:
    """A profile's lines in one of AWS's files; empty where there are none."""
    path = Path(os.environ.get(variable) or Path.home() / ".aws" / name)
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf8"))
    except (OSError, ValueError, configparser.Error):
        return {}
    return dict(parser[section]) if parser.has_section(section) else {}
