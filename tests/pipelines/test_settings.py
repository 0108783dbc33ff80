"""Where the stores are and with what to sign in: which goes first, and no key in sight."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.identity import DefaultAzureCredential

from infra.local import published_keys, services
from infra.local.services import LocalServices
from pipelines.errors import UsageError
from pipelines.settings import (
    Environment,
    blob_account,
    cosmos_account,
    is_loopback,
    patience_seconds,
    pin_local_services,
)
from pipelines.start import runs_url
from pipelines.storage import open_storage

KEY = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA=="
CONNECTION = (
    f"DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={KEY};"
    "EndpointSuffix=core.windows.net"
)
BLOB_URL = "https://shop.blob.core.windows.net"
COSMOS_URL = "https://shop.documents.azure.com"

Setting = Callable[..., None]


@pytest.fixture(autouse=True)
def setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Setting]:
    """Sets variables; the caller's own are not there, and no local service runs."""
    for name in os.environ:
        if name.startswith(("AZURE_", "COSMOS_", "HYPERREC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HYPERREC_HOME", str(tmp_path))
    patience_seconds.cache_clear()

    def to(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    yield to
    monkeypatch.undo()
    patience_seconds.cache_clear()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, LocalServices]]:
    """The home of running local services, and their addresses."""
    home = tmp_path_factory.mktemp("home")
    yield str(home), services.up(home)
    services.down(home)


def signed_in_by(credential: Any) -> str:
    """The kind of a credential, or the key itself."""
    if isinstance(credential, str):
        return credential
    return "identity" if isinstance(credential, DefaultAzureCredential) else "shared key"


def test_with_nothing_set_the_error_says_what_to_set() -> None:
    with pytest.raises(UsageError, match=r"`hyperrec up`.*AZURE_STORAGE_ACCOUNT_URL.*file://"):
        blob_account()
    with pytest.raises(UsageError, match=r"`hyperrec up`, or set COSMOS_ENDPOINT"):
        cosmos_account()
    with pytest.raises(UsageError, match="No blob storage is configured for az:// addresses"):
        open_storage("az://raw")


def test_local_services_are_found_with_their_published_keys(
    setting: Setting, local: tuple[str, LocalServices]
) -> None:
    home, found = local
    setting(HYPERREC_HOME=home)
    cosmos = cosmos_account()
    assert (cosmos.endpoint, cosmos.credential) == (
        found.cosmos_endpoint,
        published_keys.COSMOS_KEY,
    )
    assert cosmos.is_local
    if found.blob_endpoint is None:
        pytest.skip("Node or infra/local/node_modules is missing")
    blobs = blob_account()
    assert (blobs.url, blobs.credential) == (found.blob_endpoint, published_keys.AZURITE_KEY)
    assert list(open_storage("az://raw").list()) == []


def test_the_environment_goes_before_local_services(
    setting: Setting, local: tuple[str, LocalServices]
) -> None:
    setting(HYPERREC_HOME=local[0], AZURE_STORAGE_ACCOUNT_URL=BLOB_URL, COSMOS_ENDPOINT=COSMOS_URL)
    assert (blob_account().url, cosmos_account().endpoint) == (BLOB_URL, COSMOS_URL)
    assert not cosmos_account().is_local
    setting(AZURE_STORAGE_CONNECTION_STRING=CONNECTION.replace("shop", "other"))
    assert blob_account().url == "https://other.blob.core.windows.net/"


def test_an_empty_variable_is_none(setting: Setting, local: tuple[str, LocalServices]) -> None:
    home, found = local
    setting(HYPERREC_HOME=home, COSMOS_ENDPOINT="", COSMOS_KEY="", HYPERREC_PATIENCE_SECONDS="")
    setting(AZURE_STORAGE_CONNECTION_STRING="", AZURE_STORAGE_ACCOUNT_URL="", AZURE_STORAGE_KEY="")
    assert cosmos_account().credential == published_keys.COSMOS_KEY
    assert cosmos_account().endpoint == found.cosmos_endpoint
    assert patience_seconds() == 60.0


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("[::1]", True),
        ("shop.documents.azure.com", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("my-localhost", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
    ],
)
def test_a_published_key_is_for_this_machine_alone(setting: Setting, host: str, here: bool) -> None:
    for scheme in ("http", "https"):
        url = f"{scheme}://{host}:8081"
        assert is_loopback(url) == here
        setting(AZURE_STORAGE_ACCOUNT_URL=url, COSMOS_ENDPOINT=url)
        blobs, cosmos = blob_account().credential, cosmos_account().credential
        assert signed_in_by(blobs) == (published_keys.AZURITE_KEY if here else "identity")
        assert signed_in_by(cosmos) == (published_keys.COSMOS_KEY if here else "identity")


def test_a_key_of_the_environment_goes_before_an_identity(setting: Setting) -> None:
    for blobs, cosmos in ((BLOB_URL, COSMOS_URL), ("http://localhost:1", "http://localhost:2")):
        setting(AZURE_STORAGE_ACCOUNT_URL=blobs, AZURE_STORAGE_KEY=KEY)
        setting(COSMOS_ENDPOINT=cosmos, COSMOS_KEY=KEY)
        assert (blob_account().credential, cosmos_account().credential) == (KEY, KEY)


def test_a_connection_string_carries_its_own_credential(setting: Setting) -> None:
    setting(AZURE_STORAGE_CONNECTION_STRING=CONNECTION)
    account = blob_account()
    assert account.url == "https://shop.blob.core.windows.net/"
    assert signed_in_by(account.credential) == "shared key"
    signed = f"BlobEndpoint={BLOB_URL};SharedAccessSignature=sv=2024-01-01&sig={KEY}"
    setting(AZURE_STORAGE_CONNECTION_STRING=signed)
    account = blob_account()
    assert account.url == f"{BLOB_URL}/"
    assert account.credential == f"sv=2024-01-01&sig={KEY}"
    open_storage("az://raw", account=account)


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"AccountKey={KEY}",
        f"AccountKey={KEY};nonsense",
        f"BlobSecondaryEndpoint=https://x;AccountKey={KEY}",
        f"BlobEndpoint=;AccountKey={KEY}",
    ],
)
def test_a_broken_connection_string_is_not_repeated(setting: Setting, text: str) -> None:
    setting(AZURE_STORAGE_CONNECTION_STRING=text)
    with pytest.raises(UsageError) as caught:
        blob_account()
    assert str(caught.value).startswith("AZURE_STORAGE_CONNECTION_STRING is not a connection str")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "localhost:8081",
        "shop.documents.azure.com",
        "ftp://shop.example.com",
        "https:///raw",
        "https://[x",
        "https://shop:8k",
        f"AccountEndpoint={COSMOS_URL}/;AccountKey={KEY};",
        f"{BLOB_URL}/?sv=2024-01-01&sig={KEY}",
        f"https://user:{KEY}@shop.example.com",
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_not_repeated(
    setting: Setting, value: str
) -> None:
    setting(AZURE_STORAGE_ACCOUNT_URL=value, COSMOS_ENDPOINT=value)
    for account, variable in (
        (blob_account, "AZURE_STORAGE_ACCOUNT_URL"),
        (cosmos_account, "COSMOS_ENDPOINT"),
    ):
        with pytest.raises(UsageError) as caught:
            account()
        message = str(caught.value)
        assert message.startswith(f"{variable} is not an http or https address alone: give one")
        assert value not in message
        assert KEY not in message


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://shop.example.com", "Token credential is only supported with HTTPS"),
        ("https://shop", "account name"),
    ],
)
def test_a_credential_that_does_not_fit_the_address_is_told(
    setting: Setting, url: str, says: str
) -> None:
    setting(AZURE_STORAGE_ACCOUNT_URL=url)
    if "account name" in says:
        setting(AZURE_STORAGE_KEY=KEY)
    with pytest.raises(UsageError, match=says) as caught:
        open_storage("az://raw")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan", "1 s"])
def test_a_patience_that_is_none_is_told(setting: Setting, value: str) -> None:
    setting(HYPERREC_PATIENCE_SECONDS=value)
    with pytest.raises(UsageError) as caught:
        patience_seconds()
    message = str(caught.value)
    assert message.startswith(
        f"The environment variable HYPERREC_PATIENCE_SECONDS cannot be {value!r}"
    )
    assert len(message.splitlines()) == 1


def test_no_key_is_shown(setting: Setting) -> None:
    setting(
        AZURE_STORAGE_CONNECTION_STRING=CONNECTION,
        AZURE_STORAGE_KEY=KEY,
        COSMOS_ENDPOINT=COSMOS_URL,
        COSMOS_KEY=KEY,
    )
    signature = f"BlobEndpoint={BLOB_URL};SharedAccessSignature=sv=2024-01-01&sig={KEY}"
    shown = []
    for connection in (CONNECTION, signature):
        setting(AZURE_STORAGE_CONNECTION_STRING=connection)
        environment = Environment()
        for each in (environment, blob_account(), cosmos_account(), open_storage("az://raw")):
            shown += [repr(each), str(each)]
        shown += [environment.model_dump_json(), str(environment.model_dump())]
    for text in shown:
        assert KEY not in text
        assert "sig=" not in text
    for name in ("azure_storage_connection_string", "azure_storage_key", "cosmos_key"):
        assert f"{name}=SecretStr('**********')" in repr(Environment())


def test_runs_are_kept_beside_their_input_unless_said(setting: Setting, tmp_path: Path) -> None:
    assert runs_url() == runs_url("az://raw") == "az://runs"
    assert runs_url("file:///data") == runs_url("/data") == str(tmp_path / "runs")
    setting(HYPERREC_RUNS="file:///kept")
    assert runs_url() == runs_url("az://raw") == runs_url("/data") == "file:///kept"


def test_children_find_the_same_home_from_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPERREC_HOME", "mine")
    before = dict(os.environ)
    pin_local_services()
    assert os.environ["HYPERREC_HOME"] == str(tmp_path / "mine")
    assert {**os.environ, "HYPERREC_HOME": "mine"} == before
