"""When a certificate is asked for, and what becomes of the answer."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.kits.authorities import Foreign
from zerotrust.agent.renewal import AGAIN_LEAST, AGAIN_MOST, Renewal
from zerotrust.errors import PkiError
from zerotrust.pki import keys
from zerotrust.pki.ca import create_root
from zerotrust.pki.files import load_certificate
from zerotrust.pki.issuer import Issuer
from zerotrust.pki.lifetime import EARLIEST, LATEST
from zerotrust.pki.profile import BACKDATE
from zerotrust.tunnel.messages import Renew, Renewed

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
AT = NOW.timestamp()
WEEK = 7 * 86400.0
ROOT = create_root("test", now=NOW - timedelta(days=1))
ISSUER = Issuer(certificate=ROOT.certificate, key=ROOT.key)


def files(folder: Path, *, life: float = WEEK) -> tuple[Path, Path]:
    issued = Foreign(ROOT.certificate, ROOT.key).issue(
        "home", uris=("urn:0trust:agent:home",), start=NOW - BACKDATE, end=NOW + timedelta(seconds=life)
    )
    certificate, key = folder / "home.crt", folder / "home.key"
    keys.write(certificate, issued.certificate.public_bytes(Encoding.PEM), mode=keys.PUBLIC, replace=False)
    keys.write(key, keys.to_pem(issued.key), mode=keys.PRIVATE, replace=False)
    return certificate, key


def answer(message: Renew, *, agent: str = "home", at: datetime = NOW, life: float = WEEK) -> Renewed:
    issued = ISSUER.issue_agent(agent, message.csr.encode(), timedelta(seconds=life), at)
    return Renewed(chain=issued.chain_pem.decode())


@pytest.mark.parametrize("life", [60.0, WEEK, 365 * 86400.0])
def test_is_due_after_about_two_thirds_of_its_life(tmp_path: Path, life: float) -> None:
    certificate, key = files(tmp_path, life=life)
    assert not Renewal(certificate, key).due(AT + life * EARLIEST - 1)
    assert Renewal(certificate, key).due(AT + life * LATEST + 1)


def test_agents_do_not_all_ask_at_once(tmp_path: Path) -> None:
    certificate, key = files(tmp_path)
    moments = {Renewal(certificate, key)._next for _ in range(50)}
    assert max(moments) - min(moments) > WEEK * 0.05


def test_a_new_certificate_and_a_new_key_take_their_place(tmp_path: Path) -> None:
    certificate, key = files(tmp_path)
    before = key.read_bytes()
    renewal = Renewal(certificate, key)
    later = NOW + timedelta(days=5)
    outcome = renewal.take(answer(renewal.ask(later.timestamp()), at=later), later.timestamp())
    assert outcome.until == "2026-07-13 12:00:00 UTC"
    assert key.read_bytes() != before
    assert load_certificate(certificate).public_key() == keys.read_key(key).public_key()
    assert renewal.wrote(str(certificate)) and renewal.wrote(str(key))
    assert not renewal.due(later.timestamp() + WEEK * EARLIEST - 1)
    certificate.write_text("somebody else's")
    assert not renewal.wrote(str(certificate))
    assert not renewal.wrote(str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("left", "pause"), [(WEEK, AGAIN_MOST), (600.0, 60.0), (5.0, AGAIN_LEAST), (-5.0, AGAIN_LEAST)]
)
def test_what_was_refused_is_asked_for_again_sooner_the_less_time_is_left(
    tmp_path: Path, left: float, pause: float
) -> None:
    certificate, key = files(tmp_path)
    renewal = Renewal(certificate, key)
    now = AT + WEEK - left
    renewal.ask(now)
    assert renewal.take(Renewed(reason="not now"), now).refusal == "not now"
    assert not renewal.due(now + pause - 0.1)
    assert renewal.due(now + pause)


def test_a_clock_that_was_wrong_is_no_reason_to_wait_for_it(tmp_path: Path) -> None:
    renewal = Renewal(*files(tmp_path))
    renewal.ask(AT + 20 * WEEK)
    assert renewal.due(AT + WEEK * LATEST + 1)


def test_who_cannot_keep_a_certificate_asks_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = files(tmp_path)
    renewal = Renewal(certificate, key)
    waiting = tmp_path / "home.key.next"
    waiting.mkdir()
    with pytest.raises(PkiError, match=r"home\.key\.next: cannot write"):
        renewal.ask(AT + WEEK)
    assert not renewal.due(AT + WEEK + AGAIN_LEAST - 1), "not in each turn"
    assert renewal.due(AT + WEEK + AGAIN_LEAST)
    waiting.rmdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: path != tmp_path)
        with pytest.raises(PkiError, match=r"home\.crt: cannot be replaced"):
            renewal.ask(AT + WEEK)
    renewal.ask(AT)
    assert waiting.stat().st_mode & 0o777 == 0o600


def test_an_answer_that_was_not_asked_for_changes_nothing(tmp_path: Path) -> None:
    certificate, key = files(tmp_path)
    renewal = Renewal(certificate, key)
    before = certificate.read_bytes()
    message = answer(Renewal(certificate, key).ask(AT))
    assert renewal.take(message, AT).refusal
    renewal.ask(AT)
    with pytest.raises(PkiError, match="not for this agent and its new key"):
        renewal.take(message, AT)
    with pytest.raises(PkiError, match="not for this agent"):
        renewal.take(answer(renewal.ask(AT), agent="thief"), AT)
    renewal.ask(AT)
    with pytest.raises(PkiError, match="not a certificate"):
        renewal.take(Renewed(chain="-----BEGIN CERTIFICATE-----"), AT)
    with pytest.raises(PkiError, match="compare the clocks"):
        renewal.take(answer(renewal.ask(AT), life=60), AT + 61)
    assert certificate.read_bytes() == before
