"""API keys, from a file or the environment, and whether a request shows one of them."""

import base64
import binascii
import hashlib
import hmac

from trtbert.errors import ConfigError
from trtbert.serve.config import ServeConfig

_MIN_LENGTH = 16


class Keys:
    """Only the digests of the keys are kept; without any, every request is allowed."""

    def __init__(self, keys: list[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    @property
    def are_needed(self) -> bool:
        return bool(self._digests)

    def allow(self, authorization: bytes) -> bool:
        """Of `Authorization: Bearer KEY`, or Basic with the key as password, as browsers send it. The time tells nothing of the keys."""
        if not self._digests:
            return True
        shown = _digest(_shown_key(authorization))
        return sum(hmac.compare_digest(shown, digest) for digest in self._digests) > 0


def read_keys(config: ServeConfig) -> Keys:
    """ConfigError for a file that cannot be read, holds no key, or a key that is short enough to be guessed."""
    keys = config.api_keys.get_secret_value().split(",") if config.api_keys is not None else []
    if config.api_key_file is not None:
        try:
            keys += config.api_key_file.read_text(encoding="utf-8-sig").splitlines()  # With a BOM, as Windows writes it, or without.
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The file of API keys {config.api_key_file} cannot be read: {error}") from error
    keys = [key.strip() for key in keys if key.strip()]
    if not keys and (config.api_keys is not None or config.api_key_file is not None):
        raise ConfigError("API keys were asked for, and there is none. Write one on each line of the file, or leave the option out.")
    if any(len(key) < _MIN_LENGTH for key in keys):
        raise ConfigError(f"An API key must have at least {_MIN_LENGTH} characters. Make one with: openssl rand -hex 32")
    return Keys(keys)


def _shown_key(authorization: bytes) -> bytes:
    scheme, _, value = authorization.strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
