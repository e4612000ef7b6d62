"""Tests of zerotrust.db.errors."""

import pytest
from sqlalchemy.exc import OperationalError, TimeoutError

from zerotrust.db.errors import explained
from zerotrust.errors import StateError


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("database or disk is full", "the disk is full"),
        (
            "could not extend file: No space left on device\nHINT: Check free disk space.",
            "the disk is full",
        ),
        ("attempt to write a readonly database", "correct the permissions"),
        ("database disk image is malformed", "restore a backup"),
        ("canceling statement due to lock timeout\nCONTEXT: x", "has locked it"),
        ('relation "x"\ndoes not exist', 'relation "x" does not exist$'),
        (
            "connection failed:\n  no route\n  to host",
            "cannot reach the database: connection failed: no route to host; check that PostgreSQL",
        ),
        (
            "consuming input failed: server closed the connection unexpectedly",
            "cannot reach the database: .*; check that PostgreSQL runs",
        ),
        (
            'connection is bad: connection to server on socket "/x" failed: No such file\n\tIs it?',
            "cannot reach the database: connection is bad: .*; check that PostgreSQL runs",
        ),
        ("", "the connection was lost; check that PostgreSQL runs"),
    ],
)
def test_what_a_database_says_becomes_one_line(said: str, meant: str) -> None:
    with pytest.raises(StateError, match=f"^state.db: .*{meant}") as caught, explained("state.db"):
        raise OperationalError("SELECT secret", {"password": "hush"}, Exception(said))
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_too_many_at_once() -> None:
    with pytest.raises(StateError, match="all connections are in use"), explained("state.db"):
        raise TimeoutError


def test_errors_of_others_pass() -> None:
    with pytest.raises(LookupError), explained("state.db"):
        raise LookupError
