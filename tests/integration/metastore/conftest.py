"""An engine on a migrated metastore of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet

from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.engine import Engine, open_engine


@pytest.fixture
def engine(metastore_url: str) -> Iterator[Engine]:
    opened = open_engine(metastore_url)
    yield opened
    opened.dispose()


@pytest.fixture
def cipher() -> Cipher:
    return Cipher([Fernet.generate_key().decode()], "the test")
