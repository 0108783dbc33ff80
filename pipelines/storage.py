"""Blobs behind one small interface: ``file://`` folders, ``az://`` and ``abfss://`` containers.

Both write a blob whole or not at all, both can create a blob only where none is
(`create`, the conditional put on which manifests rest), both list by prefix. A name is relative
to the storage's URL and uses forward slashes. A blob with a part that starts with a dot is
somebody's unfinished write and is never listed.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import BlobServiceClient, ContainerClient, LinearRetry, StorageErrorCode

from pipelines.errors import (
    AlreadyExistsError,
    NotFoundError,
    StorageDeniedError,
    StorageError,
    StorageUnavailableError,
    UsageError,
)
from pipelines.settings import BlobAccount, Environment, blob_account, patience_seconds


@dataclass(frozen=True)
class Blob:
    """One listed blob: its name, its size in bytes and a tag that changes with its content."""

    name: str
    size: int
    etag: str


class Storage(Protocol):
    """A folder of blobs.

    Every method raises `StorageUnavailableError` when the store stays away for longer than the
    configured patience and `StorageDeniedError` when it refuses the credential.
    """

    url: str

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Blobs whose name starts with `prefix`, by name; none when the folder is not there."""
        ...

    def read(self, name: str) -> bytes:
        """The whole blob; raises `NotFoundError`."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Put a blob whole, replacing one of that name."""
        ...

    def create(self, name: str, data: bytes) -> None:
        """Put a blob whole where none is; raises `AlreadyExistsError`."""
        ...

    def delete(self, name: str) -> None:
        """Remove a blob; one that is not there is no error."""
        ...


def open_storage(url: str, *, account: BlobAccount | None = None) -> Storage:
    """The storage at ``file:///folder``, ``/folder``, ``az://container/prefix`` or ``abfss://``.

    Args:
        url: where the blobs lie. A plain path means a folder of this machine. With
            ``abfss://container@account.dfs.core.windows.net/prefix``, as Spark writes it, the
            address names the account.
        account: the blob account; by default the configured one.

    Raises:
        UsageError: the scheme is another one, the address is not whole, or no account is
            configured.
    """
    parts = urlsplit(url)
    if parts.scheme == "az":
        if not parts.netloc:
            raise UsageError(
                f"{url} names no container: write az://CONTAINER or az://CONTAINER/FOLDER."
            )
        return Container(account or blob_account(), parts.netloc, parts.path.strip("/"))
    if parts.scheme == "abfss":
        container, _, host = parts.netloc.partition("@")
        name, _, rest = host.partition(".dfs.")
        if not (container and name and rest):
            raise UsageError(
                f"{url} is not whole: write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net or "
                "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER."
            )
        opened = Container(
            account or _account_at(f"https://{name}.blob.{rest}"),
            container,
            parts.path.strip("/"),
        )
        # As it was given, so that Spark reads it by the connector of its platform.
        opened.url = url.rstrip("/")
        return opened
    if parts.scheme == "file":
        # file://folder/x is read as the relative path folder/x, as people write it.
        return Folder(Path(unquote(parts.netloc + parts.path)))
    if parts.scheme == "":
        return Folder(Path(url))
    raise UsageError(
        f"{url} has the scheme {parts.scheme}://, which is not one of file://, az:// and abfss://."
    )


def _account_at(url: str) -> BlobAccount:
    """The account at an address, with the credential that the environment has for it."""
    environment = Environment()
    if environment.azure_storage_connection_string is not None:
        account = blob_account(environment)
        if account.url.rstrip("/") == url:
            return account
    here = {"azure_storage_account_url": url, "azure_storage_connection_string": None}
    return blob_account(environment.model_copy(update=here))


def write_if_changed(storage: Storage, name: str, data: bytes) -> bool:
    """Put a blob unless the same bytes are there already, so that its ETag stays.

    Returns:
        Whether it was written.
    """
    for blob in storage.list(name):
        if blob.name == name and blob.size == len(data) and storage.read(name) == data:
            return False
    storage.write(name, data)
    return True


def is_visible(name: str) -> bool:
    """Whether no part of a name starts with . or _, as other programs' own and unfinished ones do.

    Spark writes to ``_temporary/`` until a write is committed, and reads by the same rule.
    """
    return not any(part[0] in "._" for part in PurePosixPath(name).parts)


def _is_listed(name: str) -> bool:
    return not name.startswith(".") and "/." not in name


class Folder:
    """Blobs as files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = self.root.as_uri()

    def list(self, prefix: str = "") -> Iterator[Blob]:
        # Descend from the deepest folder the prefix names, not from the root.
        start = self.root / prefix.rpartition("/")[0]
        found = []
        for folder, _, files in os.walk(start, onerror=_unless_absent, followlinks=True):
            for file in files:
                path = Path(folder, file)
                name = path.relative_to(self.root).as_posix()
                if _is_listed(name) and name.startswith(prefix):
                    found.append((name, path))
        for name, path in sorted(found):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                yield Blob(name, stat.st_size, f"{stat.st_mtime_ns:x}-{stat.st_size:x}")

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFoundError(f"There is no {name} in {self.url}.") from error
        except OSError as error:
            raise StorageError(f"Cannot read {self.root / name}: {error.strerror}.") from error

    def write(self, name: str, data: bytes) -> None:
        with self._unfinished(name, data) as (unfinished, path):
            with contextlib.suppress(FileNotFoundError):
                before, now = path.stat(), unfinished.stat()
                if now.st_mtime_ns <= before.st_mtime_ns:
                    # The file system's clock ticks in milliseconds; a tag must not come again.
                    os.utime(unfinished, ns=(now.st_atime_ns, before.st_mtime_ns + 1))
            unfinished.replace(path)

    def create(self, name: str, data: bytes) -> None:
        with self._unfinished(name, data) as (unfinished, path):
            try:
                # A hard link is the file system's "only if absent"; rename would replace.
                os.link(unfinished, path)
            except FileExistsError as error:
                raise AlreadyExistsError(f"{name} is already in {self.url}.") from error

    @contextlib.contextmanager
    def _unfinished(self, name: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        path = self.root / name
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with _open_new(unfinished) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield unfinished, path
        except OSError as error:
            raise StorageError(
                f"Cannot write {path}: {error.strerror}; check its permissions and free space."
            ) from error
        finally:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                unfinished.unlink()

    def delete(self, name: str) -> None:
        path = self.root / name
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise StorageError(
                f"Cannot delete {path}: {error.strerror}; check its permissions."
            ) from error
        for parent in path.parents:
            if parent == self.root:
                break
            try:
                parent.rmdir()
            except OSError:
                break


def _unless_absent(error: OSError) -> None:
    """A folder that is not there holds nothing; one that cannot be read must not seem empty."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise StorageError(
            f"Cannot list {error.filename}: {error.strerror}; check its permissions."
        ) from error


def _open_new(path: Path) -> BinaryIO:
    """A new file, its folder made before."""
    for _ in range(10):
        # Whoever deletes the folder's last blob removes the folder, perhaps just now.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("wb")
    return path.open("wb")


class Container:
    """Blobs below a prefix of an Azure container."""

    def __init__(self, account: BlobAccount, container: str, prefix: str) -> None:
        self._prefix = f"{prefix}/" if prefix else ""
        self.url = f"az://{container}/{prefix}".rstrip("/")
        patience = patience_seconds()
        try:
            self._client: ContainerClient = BlobServiceClient(
                account.url,
                credential=account.credential,
                retry_policy=_Patient(patience),
                # No single try may take longer than the patience, unless a second already does.
                connection_timeout=min(5, max(1, patience)),
                read_timeout=min(60, max(1, patience)),
            ).get_container_client(container)
        except ValueError as error:
            raise UsageError(
                f"Blob storage cannot be used with this address and credential: {error} Check "
                "AZURE_STORAGE_ACCOUNT_URL and AZURE_STORAGE_KEY."
            ) from error
        # A query of the address is a signature: it belongs in no message.
        self._address = self._client.url.partition("?")[0]

    def list(self, prefix: str = "") -> Iterator[Blob]:
        with self._errors(prefix or "its blobs"):
            try:
                found = self._client.list_blobs(self._prefix + prefix, include=["metadata"])
                for blob in found:
                    name = blob.name[len(self._prefix) :]
                    # An account with a hierarchical namespace lists its folders as empty blobs.
                    is_folder = (blob.metadata or {}).get("hdi_isfolder") == "true"
                    if not is_folder and _is_listed(name):
                        yield Blob(name, blob.size, blob.etag.strip('"'))
            except ResourceNotFoundError:
                return

    def read(self, name: str) -> bytes:
        with self._errors(name):
            try:
                data: bytes = self._client.download_blob(self._prefix + name).readall()
            except ResourceNotFoundError as error:
                raise NotFoundError(f"There is no {name} in {self.url}.") from error
            return data

    def write(self, name: str, data: bytes) -> None:
        self._upload(name, data, overwrite=True)

    def create(self, name: str, data: bytes) -> None:
        self._upload(name, data, overwrite=False)

    def _upload(self, name: str, data: bytes, *, overwrite: bool) -> None:
        with self._errors(name):
            try:
                self._client.upload_blob(self._prefix + name, data, overwrite=overwrite)
            except ResourceNotFoundError:
                with contextlib.suppress(ResourceExistsError):
                    self._client.create_container()
                self._client.upload_blob(self._prefix + name, data, overwrite=overwrite)

    def delete(self, name: str) -> None:
        with self._errors(name), contextlib.suppress(ResourceNotFoundError):
            self._client.delete_blob(self._prefix + name)

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ServiceRequestError, ServiceResponseError) as error:
            raise self._unavailable("did not answer") from error
        except ClientAuthenticationError as error:
            raise StorageDeniedError(self._denied()) from error
        except HttpResponseError as error:
            if error.status_code in {401, 403}:
                raise StorageDeniedError(self._denied()) from error
            if getattr(error, "error_code", None) == StorageErrorCode.BLOB_ALREADY_EXISTS:
                raise AlreadyExistsError(f"{name} is already in {self.url}.") from error
            # No status: an answer that broke off, several times over.
            if error.status_code is None or error.status_code == 408 or error.status_code >= 500:
                said = f"answered {error.status_code}" if error.status_code else "cut answers short"
                raise self._unavailable(said) from error
            why = str(error.reason).rstrip(".")
            raise StorageError(
                f"Blob storage refused {name} in {self.url}: {error.status_code} {why}."
            ) from error
        except AzureError as error:
            raise StorageError(
                f"Blob storage failed on {name} in {self.url}: {error.message}"
            ) from error

    def _unavailable(self, did: str) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"Blob storage at {self._address} {did} for {patience_seconds():g} s; bring it back "
            "and give the same command again, which resumes."
        )

    def _denied(self) -> str:
        return (
            f"Blob storage at {self._address} refused the credential: check "
            "AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_KEY, or give the identity the role "
            "Storage Blob Data Contributor."
        )


class _Patient(LinearRetry):
    """A try a second until the patience ends, whichever way and however slowly each try fails."""

    def __init__(self, patience: float) -> None:
        # The SDK counts failures by kind and gives up after three of one kind unless told more.
        tries = 1_000_000
        super().__init__(
            backoff=1,
            random_jitter_range=0,
            retry_total=tries,
            retry_connect=tries,
            retry_read=tries,
            retry_status=tries,
        )
        self._patience = patience

    def configure_retries(self, request: Any) -> dict[str, Any]:
        return super().configure_retries(request) | {"until": time.monotonic() + self._patience}

    def increment(self, settings: dict[str, Any], *args: Any, **more: Any) -> bool:
        again = super().increment(settings, *args, **more)
        return again and time.monotonic() < settings["until"]
