"""What the tests share: a database in memory for each."""

import pytest

import triune


@pytest.fixture
def db():
    with triune.connect() as connection:
        yield connection
