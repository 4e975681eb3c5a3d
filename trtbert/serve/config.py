"""The options of `trtbert serve`: one frozen value, from the environment and the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from trtbert.config import Place, config_from_mapping
from trtbert.flags import flag_of

_PREFIX = "TRTBERT_SERVE_"


class ServeConfig(BaseModel):
    """How packages are served; see `trtbert serve --help`. Each option is an environment variable too: TRTBERT_SERVE_PORT."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on"""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on, 0 for any that is free"""
    workers: int = Field(default=1, ge=1, le=128)
    """Processes, each with its own copy of the models"""
    threads: int | None = Field(default=None, ge=1)
    """Threads of one inference on a CPU; default: the cores of the machine, divided among the workers"""
    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Largest body of a request; a larger one is answered 413"""
    max_texts: int = Field(default=2048, ge=1)
    """Most texts in one request"""
    max_tokens: int = Field(default=32768, ge=512)
    """Most tokens in one request, with those that the model cuts off"""
    max_requests: int = Field(default=1024, ge=1)
    """Requests that one worker has open at once; more are answered 503"""
    queue_tokens: int = Field(default=65536, ge=512)
    """Tokens that wait in one worker; requests beyond them are answered 429"""
    queue_seconds: float = Field(default=5.0, gt=0)
    """Time that what waits already would take, after which a request is answered 429"""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds from a request to its answer; after them it is given up and answered 503"""
    client_timeout: float = Field(default=20.0, gt=0)
    """Seconds that a client may take to send a request or to take in an answer; then its connection is closed"""
    drain_timeout: float = Field(default=30.0, gt=0)
    """Seconds that open requests have after SIGTERM"""
    api_key_file: Path | None = None
    """File with an API key on each line; without keys everybody may ask. TRTBERT_SERVE_API_KEYS holds keys separated by commas"""
    api_keys: SecretStr | None = None
    """Only from the environment: everybody on the machine reads the arguments of a process."""
    tls_cert: Path | None = None
    """PEM file of the certificate chain, for https"""
    tls_key: Path | None = None
    """PEM file of its private key"""
    tls_client_ca: Path | None = None
    """PEM file of the authorities whose certificates a client must show"""

    @model_validator(mode="after")
    def _fits_together(self) -> "ServeConfig":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("`tls_cert` and `tls_key` belong together; give both for https, or none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("`tls_client_ca` needs https; add `tls_cert` and `tls_key`")
        if self.max_tokens > self.queue_tokens:
            raise ValueError(f"`queue_tokens` {self.queue_tokens} would never take a request of `max_tokens` {self.max_tokens}; raise it")
        return self


NO_FLAGS = frozenset({"api_keys"})
"""What only the environment may hold."""


def read_config(flags: Mapping[str, Any], environment: Mapping[str, str]) -> ServeConfig:
    """`flags` win over the environment; ConfigError lists every wrong value by its variable or flag."""
    variables = {name: environment.get(_variable(name), "") for name in ServeConfig.model_fields}
    variables = {name: value for name, value in variables.items() if value and name not in flags}

    def shown(place: Place) -> str:
        return _variable(str(place[0])) if place[0] in variables else flag_of(place)

    return config_from_mapping({**variables, **flags}, ServeConfig, name="The configuration of the server", shown=shown)


def _variable(field: str) -> str:
    return _PREFIX + field.upper()
