"""Where a model is served and how it is talked to; keys are named by their environment variable, never held here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from zoomzero.config import Settings, lay_over, parse_settings, read_settings
from zoomzero.errors import ConfigError

SCHEMES = ("http://", "https://")


class ServerSettings(Settings):
    """A server and how it is talked to."""

    url: str = Field(description="Base address of the OpenAI protocol, for example http://localhost:8000/v1.")
    model: str = Field("", description="The model's name on the server; empty takes the only one it has.")
    api_key_env: str = Field("ZOOMZERO_API_KEY", description="Environment variable that holds the key.")
    headers: dict[str, str] = Field({}, description="Extra headers; the value `env:NAME` is read from the environment.")
    timeout_s: float = Field(300.0, gt=0, description="Seconds a reply may take.")
    retries: int = Field(4, ge=0, description="Times a request is sent again when the server is down, busy or garbled.")
    concurrency: int = Field(8, ge=1, description="Requests that run side by side.")
    layout: Literal["auto", "native", "interleaved"] = Field(
        "auto", description="How frames travel: one video with exact times, or a time and an image for each frame."
    )
    image_format: Literal["png", "jpeg"] = Field("png", description="PNG is exact; JPEG is smaller (docs/servers.md).")
    jpeg_quality: int = Field(95, ge=1, le=100, description="Of JPEG images.")
    chat_template: str | None = Field(
        None, description="File with a chat template to read requests by (vLLM: --trust-request-chat-template)."
    )

    @property
    def root(self) -> str:
        """The address without its `/v1`: where servers have what is not in the OpenAI protocol."""
        return self.url.removesuffix("/v1")

    @property
    def name(self) -> str:
        """What the model is called in traces and errors."""
        return f"{self.url}#{self.model}" if self.model else self.url


class AskedServerSettings(ServerSettings):
    """A server whose model is asked questions (`[server]` of a `--model`)."""

    checkpoint: str = Field(
        "", description="What is served, where it is here too: its zoomzero.json says how it wants to be asked."
    )


def is_server(model: str) -> bool:
    """Whether a `--model` names a server: an address, or a TOML file with a table `[server]`."""
    return model.startswith(SCHEMES) or (model.endswith(".toml") and Path(model).expanduser().is_file())


def read_server(model: str, overrides: Sequence[str] = ()) -> tuple[AskedServerSettings, dict[str, Any], list[str]]:
    """Return the server a `--model` names.

    Args:
        model: `http://HOST:PORT/v1#NAME`, or a TOML file with a table `[server]` and, beside it, the model's settings.
        overrides: `key=value` each; those that begin with `server.` are the server's.

    Returns:
        The server's settings, the model's settings in the file, and the overrides that are left.

    Raises:
        ConfigError: an address with a key in it, an unknown setting, or a file without `[server]`.
    """
    own = [one.strip().removeprefix("server.") for one in overrides if one.strip().startswith("server.")]
    left = [one for one in overrides if not one.strip().startswith("server.")]
    rest: dict[str, Any] = {}
    if model.startswith(SCHEMES):
        url, _, name = model.partition("#")
        given: dict[str, Any] = {"url": url, "model": name}
        source = "server"
    else:
        rest = read_settings(Path(model).expanduser())
        table = rest.pop("server", None)
        if not isinstance(table, dict):
            raise ConfigError(model, "has no table [server]", "give one with url and model, or an http:// address")
        given, source = table, f"{model}: server"
    server = parse_settings(AskedServerSettings, lay_over(given, read_settings(None, own)), source)
    return server.model_copy(update={"url": checked_url(server.url)}), rest, left


def checked_url(url: str, setting: str = "--model") -> str:
    """Return an address without a slash at its end; `/v1` is added where it has no path.

    Args:
        url: what was given.
        setting: where, for the error.

    Raises:
        ConfigError: it is no address, or has a key or a query in it.
    """
    parts = urlsplit(url)
    if not url.startswith(SCHEMES) or not parts.hostname:
        raise ConfigError(setting, f"{url!r} is no address", "write http://HOST:PORT/v1#NAME")
    if "@" in parts.netloc or parts.query:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        fix = "put the key into the environment variable ZOOMZERO_API_KEY (or the one server.api_key_env names)"
        raise ConfigError(setting, f"the address of {shown} holds more than host, port and path", fix)
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def template_of(settings: ServerSettings) -> dict[str, str]:
    """Return what a request needs to be read by another chat template.

    Raises:
        ConfigError: the file cannot be read.
    """
    if settings.chat_template is None:
        return {}
    try:
        return {"chat_template": Path(settings.chat_template).expanduser().read_text(encoding="utf-8")}
    except (OSError, ValueError) as error:
        raise ConfigError("server.chat_template", f"cannot be read ({error})", "name a file of text") from error


def secret_headers(settings: ServerSettings) -> dict[str, str]:
    """Return the extra headers, those that say `env:NAME` with the variable's value.

    Raises:
        ConfigError: a variable is not set.
    """
    return {name: _from_environment(name, value) for name, value in settings.headers.items()}


def _from_environment(name: str, value: str) -> str:
    if not value.startswith("env:"):
        return value
    variable = value.removeprefix("env:")
    if variable not in os.environ:
        raise ConfigError(f"server.headers.{name}", f"the environment has no {variable}", f"export {variable}=...")
    return os.environ[variable]
