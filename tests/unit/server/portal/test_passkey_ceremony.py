"""Tests of the server's part of WebAuthn, with an authenticator in software."""

import contextlib
import json
from typing import Any

import pytest
from fido2.utils import websafe_decode, websafe_encode
from hypothesis import given
from hypothesis import strategies as st

from tests.support.authenticator import Authenticator
from zerotrust.access.secret_format import digest_of
from zerotrust.db.access_tables import PasskeyRow
from zerotrust.errors import AccessRefused
from zerotrust.server.access.people import NewPasskey
from zerotrust.server.portal.passkey_ceremony import PasskeyCeremony

pytestmark = pytest.mark.anyio

RP_ID = "auth.example.com"
ORIGIN = f"https://{RP_ID}"


class Keys:
    """Challenges as plain JSON: each is the server's own."""

    def __init__(self) -> None:
        self.too_old = False

    def sign_challenge(self, data: Any) -> str:
        return json.dumps(data)

    async def verify_challenge(self, text: str) -> dict[str, Any]:
        if self.too_old:
            raise AccessRefused("the challenge is too old: try again")
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError):
            raise AccessRefused("the challenge is not valid: try again") from None


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def ceremony(keys: Keys) -> PasskeyCeremony:
    return PasskeyCeremony(rp_id=RP_ID, origin=ORIGIN, keys=keys)


@pytest.fixture
def device() -> Authenticator:
    return Authenticator(origin=ORIGIN)


def options(
    ceremony: PasskeyCeremony, user_id: str = "u_1", existing: list[PasskeyRow] | None = None
) -> dict[str, Any]:
    return ceremony.registration_options(
        user_id=user_id, name="anna", shown_name="", existing=existing or []
    )


async def register(ceremony: PasskeyCeremony, device: Authenticator) -> PasskeyRow:
    made = await ceremony.verify_registration(
        device.create(options(ceremony)), "u_1", label="phone"
    )
    return row_of(made)


def row_of(made: NewPasskey) -> PasskeyRow:
    return PasskeyRow(
        credential_id=made.credential_id,
        user_id="u_1",
        public_key=made.public_key,
        rp_id=made.rp_id,
        created_at=0,
        counter=made.counter,
    )


class Known:
    """The passkeys in the database."""

    def __init__(self, *rows: PasskeyRow) -> None:
        self.rows = {row.credential_id: row for row in rows}

    async def __call__(self, credential_id: bytes) -> PasskeyRow | None:
        return self.rows.get(credential_id)


async def test_options_ask_for_a_discoverable_passkey_that_verifies_its_user(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    known = await register(ceremony, device)
    made = options(ceremony, existing=[known])
    json.dumps(made)
    assert made["rp"] == {"id": RP_ID, "name": RP_ID}
    assert made["user"] == {"id": "dV8x", "name": "anna", "displayName": "anna"}
    assert made["authenticatorSelection"]["residentKey"] == "required"
    assert made["authenticatorSelection"]["userVerification"] == "required"
    assert made["attestation"] == "none"
    assert [item["alg"] for item in made["pubKeyCredParams"]] == [-7, -8, -257]
    assert [item["id"] for item in made["excludeCredentials"]] == [
        websafe_encode(device.credential_id)
    ]
    asked = ceremony.sign_in_options()
    assert asked["rpId"] == RP_ID and asked["userVerification"] == "required"
    assert "allowCredentials" not in asked
    assert asked["challenge"] != ceremony.sign_in_options()["challenge"]


async def test_a_registered_passkey_signs_in(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    row = await register(ceremony, device)
    device.step = 1
    asked = ceremony.sign_in_options()
    verified = await ceremony.verify_sign_in(device.get(asked), Known(row))
    assert (verified.user_id, verified.counter, verified.backed_up) == ("u_1", 1, True)
    random = json.loads(websafe_decode(asked["challenge"]))["r"]
    assert verified.spent == digest_of(random.encode())


async def test_a_security_key_without_user_handle_signs_in(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    row = await register(ceremony, device)
    answer = device.get(ceremony.sign_in_options(), userHandle=None)
    assert (await ceremony.verify_sign_in(answer, Known(row))).user_id == "u_1"


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "http://auth.example.com",
        "https://auth.example.com:8443",
        "https://auth.example.com.evil.example",
        "https://evil.auth.example.com",
        "android:apk-key-hash:x",
        "null",
        "",
    ],
)
async def test_pages_of_other_origins_are_refused(
    ceremony: PasskeyCeremony, device: Authenticator, origin: str
) -> None:
    row = await register(ceremony, device)
    device.origin = origin
    with pytest.raises(AccessRefused):
        await ceremony.verify_sign_in(device.get(ceremony.sign_in_options()), Known(row))
    with pytest.raises(AccessRefused):
        await register(ceremony, device)


async def test_frames_of_other_origins_are_refused(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    row = await register(ceremony, device)
    device.cross_origin = True
    with pytest.raises(AccessRefused):
        await ceremony.verify_sign_in(device.get(ceremony.sign_in_options()), Known(row))


async def test_a_user_who_was_not_verified_is_refused(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    row = await register(ceremony, device)
    device.verified = False
    with pytest.raises(AccessRefused):
        await ceremony.verify_sign_in(device.get(ceremony.sign_in_options()), Known(row))
    with pytest.raises(AccessRefused):
        await register(ceremony, device)


async def test_another_key_is_refused(ceremony: PasskeyCeremony, device: Authenticator) -> None:
    row = await register(ceremony, device)
    other = Authenticator(rp_id=RP_ID, credential_id=device.credential_id)
    with pytest.raises(AccessRefused):
        await ceremony.verify_sign_in(other.get(ceremony.sign_in_options()), Known(row))


async def test_an_unknown_passkey_is_refused_with_advice(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    await register(ceremony, device)
    with pytest.raises(AccessRefused, match="not known here"):
        await ceremony.verify_sign_in(device.get(ceremony.sign_in_options()), Known())


async def test_a_passkey_of_another_domain_is_refused(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    row = await register(ceremony, device)
    row.rp_id = "old.example.com"
    with pytest.raises(AccessRefused, match="not known here"):
        await ceremony.verify_sign_in(device.get(ceremony.sign_in_options()), Known(row))
    assert options(ceremony, existing=[row])["excludeCredentials"] == []


async def test_a_signature_for_another_domain_is_refused(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    row = await register(ceremony, device)
    device.rp_id = "evil.example"
    with pytest.raises(AccessRefused):
        await ceremony.verify_sign_in(device.get(ceremony.sign_in_options()), Known(row))


async def test_another_users_handle_is_refused(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    row = await register(ceremony, device)
    answer = device.get(ceremony.sign_in_options(), userHandle=websafe_encode(b"u_2"))
    with pytest.raises(AccessRefused):
        await ceremony.verify_sign_in(answer, Known(row))


async def test_a_challenge_is_for_one_purpose_and_one_user(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    row = await register(ceremony, device)
    with pytest.raises(AccessRefused):
        await ceremony.verify_sign_in(device.get(options(ceremony)), Known(row))
    with pytest.raises(AccessRefused):
        await ceremony.verify_registration(
            device.create(options(ceremony, user_id="u_2")), "u_1", label=""
        )
    wrong = {**options(ceremony), "challenge": ceremony.sign_in_options()["challenge"]}
    with pytest.raises(AccessRefused):
        await ceremony.verify_registration(device.create(wrong), "u_1", label="")


@pytest.mark.parametrize("text", ["x", "\u00e9", ""])
async def test_a_challenge_that_no_server_has_signed_is_refused(
    ceremony: PasskeyCeremony, device: Authenticator, text: str
) -> None:
    row = await register(ceremony, device)
    asked = {**ceremony.sign_in_options(), "challenge": websafe_encode(text.encode("latin-1"))}
    with pytest.raises(AccessRefused):
        await ceremony.verify_sign_in(device.get(asked), Known(row))


async def test_an_old_challenge_is_refused(
    ceremony: PasskeyCeremony, device: Authenticator, keys: Keys
) -> None:
    row = await register(ceremony, device)
    answer = device.get(ceremony.sign_in_options())
    keys.too_old = True
    with pytest.raises(AccessRefused, match="too old"):
        await ceremony.verify_sign_in(answer, Known(row))


async def test_other_algorithms_are_refused(
    ceremony: PasskeyCeremony, device: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerotrust.server.portal.passkey_ceremony.ALGORITHMS", (-8,))
    with pytest.raises(AccessRefused):
        await register(ceremony, device)


async def test_an_id_that_is_too_long_is_refused(
    ceremony: PasskeyCeremony, device: Authenticator
) -> None:
    device.credential_id = b"x" * 1024
    with pytest.raises(AccessRefused):
        await register(ceremony, device)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
NAMES = [
    "id",
    "rawId",
    "type",
    "response",
    "clientDataJSON",
    "authenticatorData",
    "signature",
    "userHandle",
    "attestationObject",
    "authenticatorAttachment",
    "clientExtensionResults",
]


@given(
    junk=st.one_of(st.text(max_size=30), VALUES.map(json.dumps)),
    name=st.sampled_from(NAMES),
    value=VALUES,
    inside=st.booleans(),
)
async def test_any_answer_is_verified_or_refused(
    junk: str, name: str, value: Any, inside: bool
) -> None:
    ceremony = PasskeyCeremony(rp_id=RP_ID, origin=ORIGIN, keys=Keys())
    device = Authenticator(origin=ORIGIN)
    created = json.loads(device.create(options(ceremony)))
    signed = json.loads(device.get(ceremony.sign_in_options()))
    for answer in (created, signed):
        (answer["response"] if inside else answer)[name] = value
    for text in (junk, json.dumps(created)):
        with contextlib.suppress(AccessRefused):
            await ceremony.verify_registration(text, "u_1", label="")
    for text in (junk, json.dumps(signed)):
        with pytest.raises(AccessRefused):
            await ceremony.verify_sign_in(text, Known())


@given(cut=st.integers(0, 400), flipped=st.integers(1, 255), at=st.integers(0, 400))
async def test_a_changed_authenticator_answer_is_refused(cut: int, flipped: int, at: int) -> None:
    ceremony = PasskeyCeremony(rp_id=RP_ID, origin=ORIGIN, keys=Keys())
    device = Authenticator(origin=ORIGIN)
    row = await register(ceremony, device)
    for name in ("authenticatorData", "signature", "clientDataJSON"):
        signed = json.loads(device.get(ceremony.sign_in_options()))
        data = bytearray(websafe_decode(signed["response"][name]))
        data[at % len(data)] ^= flipped
        changed = bytes(data[: max(1, cut)])
        signed["response"][name] = websafe_encode(changed)
        with pytest.raises(AccessRefused):
            await ceremony.verify_sign_in(json.dumps(signed), Known(row))
