"""A local endpoint, and on it an account with a database of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from tests.serving_export.publishing_support import Account


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cosmos_server(tmp_path_factory.mktemp("cosmos")) as address:
        yield address


@pytest.fixture
def empty_account(endpoint: str) -> Iterator[Account]:
    """An account whose database does not exist."""
    account = Account(endpoint, COSMOS_KEY, f"test-{uuid.uuid4().hex[:12]}")
    yield account
    account.faults()


@pytest.fixture
def account(empty_account: Account) -> Account:
    """An account with its containers."""
    empty_account.create_containers()
    return empty_account
