"""Where the stores are and how to sign in: read from the environment, never from a file.

Order for each store: an explicit setting of the environment; then the local services that
`hyperrec up` started. An emulator's published key is used for loopback addresses alone;
everything else signs in with `DefaultAzureCredential` unless the environment holds a key.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.local import published_keys, services
from pipelines.errors import UsageError


class Environment(BaseSettings):
    """The variables that hyperrec reads; each is optional, an empty one counts as not set.

    Raises:
        UsageError: a variable's value is none that it may have.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    azure_storage_connection_string: SecretStr | None = None
    azure_storage_account_url: str | None = None
    azure_storage_key: SecretStr | None = None
    cosmos_endpoint: str | None = None
    cosmos_key: SecretStr | None = None
    hyperrec_home: Path = Field(
        default=Path(".hyperrec"), description="local services: state, logs and data"
    )
    hyperrec_runs: str | None = Field(default=None, description="URL under which runs are kept")
    hyperrec_patience_seconds: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="how long a store may be away before a run fails",
    )
    hyperrec_spark: str = Field(
        default="local",
        description="where the preprocess stage runs: here, in a child, or a cluster's address",
    )
    hyperrec_spark_memory: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]*[mgMG]$",
        description="heap of each of Spark's JVMs, such as 4g",
    )

    hyperrec_log: Literal["text", "json"] = Field(
        default="text", description="log lines for people, or one JSON object a line"
    )

    @field_validator("hyperrec_spark")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        if re.fullmatch(r"local|submit|(spark|k8s|sc)://.+", value) is None:
            # The value is not repeated: an address of Spark Connect may hold a token.
            raise UsageError(
                "HYPERREC_SPARK is neither local nor submit nor the address of a cluster: give one "
                "such as spark://HOST:7077, k8s://https://HOST:443 or sc://HOST:15002."
            )
        return value

    def __init__(self) -> None:
        try:
            super().__init__()
        except ValidationError as error:
            first = error.errors()[0]
            variable = str(first["loc"][0]).upper()
            raise UsageError(
                f"The environment variable {variable} cannot be {first['input']!r}: "
                f"{first['msg'][:1].lower()}{first['msg'][1:]}."
            ) from error


@dataclass(frozen=True)
class BlobAccount:
    """A blob account and how to sign in to it."""

    url: str
    credential: Any = field(repr=False)


@dataclass(frozen=True)
class CosmosAccount:
    """A Cosmos DB account and how to sign in to it."""

    endpoint: str
    credential: Any = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether this is an emulator on this machine, where containers may be made freely."""
        return is_loopback(self.endpoint)


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine."""
    return (urlsplit(url).hostname or "") in {"127.0.0.1", "localhost", "::1"}


def _address(url: str, variable: str, example: str) -> str:
    """A service's address, free of anything secret, so that it may stand in messages and logs."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or parts.query or parts.fragment or "@" in parts.netloc:
        # The value is not repeated: it may be a connection string or hold a signature.
        raise UsageError(
            f"{variable} is not an http or https address alone: give one such as {example}, and "
            "the key or signature, if any, in its own variable."
        )
    return url


def _azure_credential() -> Any:
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415  half a second to import

    return DefaultAzureCredential()


def blob_account(environment: Environment | None = None) -> BlobAccount:
    """The blob account to use.

    Raises:
        UsageError: none is configured and no local one runs.
    """
    env = environment or Environment()
    if env.azure_storage_connection_string is not None:
        return _from_connection_string(env.azure_storage_connection_string.get_secret_value())
    url = env.azure_storage_account_url
    if url is not None:
        url = _address(
            url, "AZURE_STORAGE_ACCOUNT_URL", example="https://NAME.blob.core.windows.net"
        )
    else:
        local = services.running(env.hyperrec_home)
        url = local.blob_endpoint if local else None
    if url is None:
        raise UsageError(
            "No blob storage is configured for az:// addresses: start the local services with "
            "`hyperrec up`, set AZURE_STORAGE_ACCOUNT_URL or AZURE_STORAGE_CONNECTION_STRING, "
            "or use file:// addresses."
        )
    if env.azure_storage_key is not None:
        return BlobAccount(url, env.azure_storage_key.get_secret_value())
    if is_loopback(url):
        return BlobAccount(url, published_keys.AZURITE_KEY)
    return BlobAccount(url, _azure_credential())


def _from_connection_string(text: str) -> BlobAccount:
    from azure.storage.blob import BlobServiceClient  # noqa: PLC0415  slow to import

    try:
        client = BlobServiceClient.from_connection_string(text)
    except ValueError as error:
        raise UsageError(
            "AZURE_STORAGE_CONNECTION_STRING is not a connection string: copy it whole from the "
            "storage account's page of access keys."
        ) from error
    url, _, signature = client.url.partition("?")
    return BlobAccount(url, client.credential or signature or None)


def operator() -> str:
    """Who gives a command on this machine, for the history of versions: user@machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def cosmos_account(environment: Environment | None = None) -> CosmosAccount:
    """The Cosmos DB account to use.

    Raises:
        UsageError: none is configured and no local one runs.
    """
    account = cosmos_account_if_any(environment)
    if account is None:
        raise UsageError(
            "No Cosmos DB endpoint is configured: start the local services with `hyperrec up`, "
            "or set COSMOS_ENDPOINT (and COSMOS_KEY unless the machine has an Azure identity)."
        )
    return account


def cosmos_account_if_any(environment: Environment | None = None) -> CosmosAccount | None:
    """The Cosmos DB account to use, or None where none is configured and no local one runs."""
    env = environment or Environment()
    endpoint = env.cosmos_endpoint
    if endpoint is not None:
        endpoint = _address(endpoint, "COSMOS_ENDPOINT", example="https://NAME.documents.azure.com")
    else:
        local = services.running(env.hyperrec_home)
        endpoint = local.cosmos_endpoint if local else None
    if endpoint is None:
        return None
    if env.cosmos_key is not None:
        return CosmosAccount(endpoint, env.cosmos_key.get_secret_value())
    if is_loopback(endpoint):
        return CosmosAccount(endpoint, published_keys.COSMOS_KEY)
    return CosmosAccount(endpoint, _azure_credential())


@lru_cache(maxsize=1)
def patience_seconds() -> float:
    """How long a store may be away before a run fails, in seconds."""
    return Environment().hyperrec_patience_seconds


def pin_local_services() -> None:
    """Make child processes (Spark's workers) find the local services from any folder.

    Only addresses enter the environment; the keys of emulators are known to the code.
    """
    env = Environment()
    os.environ["HYPERREC_HOME"] = str(env.hyperrec_home.resolve())
