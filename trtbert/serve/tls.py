"""The PEM files of `trtbert serve` -> the context of its TLS connections."""

import ssl

from trtbert.errors import ConfigError
from trtbert.serve.config import ServeConfig


def tls_context(config: ServeConfig) -> ssl.SSLContext | None:
    """None for plain HTTP. ConfigError for a file that cannot be read or used; nobody is ever asked for a pass phrase."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    for option, path in (("--tls-cert", config.tls_cert), ("--tls-key", config.tls_key), ("--tls-client-ca", config.tls_client_ca)):
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"The file of {option}, {path}, cannot be read: {error.strerror}. Give a PEM file that the server may read."
            ) from error

    def refuse() -> str:
        raise ConfigError(
            f"The private key of --tls-key, {config.tls_key}, is encrypted, and a server cannot be asked for a pass phrase. "
            f"Write it without one: openssl pkey -in {config.tls_key} -out KEY.pem"
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key, password=refuse)
    except ssl.SSLError as error:
        raise ConfigError(
            f"The certificate of --tls-cert, {config.tls_cert}, cannot be used with the key of --tls-key, {config.tls_key}: "
            f"{_reason(error)}. Give the certificate chain and the private key that it was made for, each as a PEM file."
        ) from error
    if config.tls_client_ca is not None:
        try:
            context.load_verify_locations(config.tls_client_ca)
        except ssl.SSLError as error:
            raise ConfigError(
                f"The file of --tls-client-ca, {config.tls_client_ca}, cannot be used: {_reason(error)}. "
                "Give the certificates of the authorities as a PEM file."
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _reason(error: ssl.SSLError) -> str:
    """As OpenSSL names it."""
    return (error.reason or "no PEM").replace("_", " ").lower()
