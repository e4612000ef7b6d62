"""Fuzz target: a state that a browser has changed or written itself is read or refused.

Run: python fuzz/oidc_state.py -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["zerotrust.access", "zerotrust.server.portal.oidc_state"]):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from joserfc import jwe
    from joserfc.jwk import OctKey

    from zerotrust.access.return_target import safe_target
    from zerotrust.server.portal.oidc_state import MAX_STATE, SignInState

NOW = 1_800_000_000
WAY = b"w" * 43
KEY = OctKey.import_key(HKDF(hashes.SHA256(), 32, salt=None, info=b"0trust state").derive(WAY))
HEADER = {"alg": "dir", "enc": "A256GCM"}


def one_state(sealed: str) -> None:
    found = SignInState.open(sealed, WAY, provider="p", now=NOW)
    if found is None:
        return
    assert found.provider == "p"
    assert found.purpose in ("sign_in", "prove_again", "join")
    assert len(found.seal(WAY)) <= MAX_STATE
    if found.attempt is not None:
        assert found.attempt.to == safe_target(found.attempt.to)
        assert not set(found.attempt.host) & set("/:@?#\\ ")


def test_one_input(data: bytes) -> None:
    one_state(data.decode("latin-1"))
    attempt = b',"app.example.com","/x","%b","%b"]' % (b"n" * 22, b"c" * 42 + b"A")
    for content in (
        data,
        b'["p",1800000000,"cg","sign_in",""' + data + b"]",
        b'["p",1800000000,' + data + attempt,
    ):
        one_state(jwe.encrypt_compact(dict(HEADER), content, KEY))


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
