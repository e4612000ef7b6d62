"""Tests of the claims and the signature of assertions."""

from joserfc import jwt
from joserfc.jwk import ECKey

from zerotrust.access.assertion import claims_of, sign
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind

NOW = 1_800_000_000.5
ANNA = Subject(
    kind=SubjectKind.USER,
    id="u_1",
    name="anna",
    shown_name="Anna",
    groups=frozenset(("family", "admins", "main/ops")),
    emails=frozenset(("b@example.com", "anna@example.com")),
    provider="main",
)


def credential(subject: Subject, kind: CredentialKind = CredentialKind.PASS) -> Credential:
    sign_in = None
    if kind is CredentialKind.PASS and subject.kind is SubjectKind.USER:
        sign_in = Credential(
            CredentialKind.SIGN_IN, "7", digest=b"s", subject=subject, ends_at=2e9, method="oidc"
        )
    return Credential(kind, "9", digest=b"d", subject=subject, ends_at=2e9, sign_in=sign_in)


def claims(subject: Subject, kind: CredentialKind = CredentialKind.PASS) -> dict[str, object]:
    return claims_of(
        credential(subject, kind),
        auth_host="auth.example.com",
        host="grafana.example.com",
        named_groups=frozenset(("family", "main/ops", "others")),
        now=NOW,
    )


def test_claims_of_a_user() -> None:
    assert claims(ANNA) == {
        "iss": "https://auth.example.com",
        "aud": "https://grafana.example.com",
        "sub": "u_1",
        "email": "anna@example.com",
        "name": "Anna",
        "preferred_username": "anna",
        "groups": ["family", "main/ops"],
        "idp": "main",
        "amr": ["oidc"],
        "sid": "sign_in-7",
        "iat": 1_800_000_000,
        "exp": 1_800_000_300,
    }


def test_the_chosen_address_comes_before_the_first_of_the_alphabet() -> None:
    anna = Subject(
        kind=SubjectKind.USER, id="u", emails=frozenset(("a@x.de", "z@x.de")), email="z@x.de"
    )
    assert claims(anna)["email"] == "z@x.de"


def test_a_user_without_address_or_provider_has_no_such_claims() -> None:
    ben = Subject(kind=SubjectKind.USER, id="u_2", name="ben")
    found = claims(ben)
    assert not {"email", "idp", "act"} & found.keys()
    assert found["name"] == "ben"
    assert found["groups"] == []


def test_a_machine_has_its_own_name_space() -> None:
    """A machine that is called like a user must not be taken for the user."""
    frame = Subject(kind=SubjectKind.MACHINE, id="machine:anna", name="anna")
    found = claims(frame, CredentialKind.TOKEN)
    assert found["sub"] == found["preferred_username"] == "machine:anna"
    assert found["amr"] == ["token"]
    assert found["sid"] == "token-9"


def test_an_app_acts_for_its_owner() -> None:
    phone = Subject(kind=SubjectKind.APP, id="app:phone", name="phone", owner=ANNA)
    found = claims(phone, CredentialKind.TOKEN)
    assert found["sub"] == "u_1"
    assert found["groups"] == ["family", "main/ops"]
    assert found["act"] == {"sub": "app:phone"}


def test_visitors_with_a_link_or_pin() -> None:
    link = claims(Subject(kind=SubjectKind.LINK, id="link:l1"))
    assert (link["sub"], link["preferred_username"], link["amr"]) == (
        "link:l1",
        "link:l1",
        ["link"],
    )
    of_anna = claims(Subject(kind=SubjectKind.LINK, id="link:l1", owner=ANNA))
    assert of_anna == link, "a visitor is not the user who has created the link"
    pin = claims(Subject(kind=SubjectKind.PIN, id="pin:party.example.com"))
    assert pin["sub"] == "pin:party.example.com"


def test_a_user_with_500_groups_gets_a_small_header() -> None:
    """Pomerium#2730, #3069: 200 groups made the header too large."""
    groups = frozenset(f"main/{'group':x<60}{number}" for number in range(500))
    anna = Subject(kind=SubjectKind.USER, id="u_1", name="anna", groups=groups | {"main/ops"})
    found = claims(anna)
    assert found["groups"] == ["main/ops"]
    assert len(sign(found, ECKey.generate_key("P-256"), kid="k" * 43)) < 1500


def test_too_many_named_groups_are_left_out_together() -> None:
    groups = frozenset(f"{number:064}" for number in range(100))
    anna = Subject(kind=SubjectKind.USER, id="u_1", name="anna", groups=groups)
    found = claims_of(
        credential(anna), auth_host="auth.x", host="a.x", named_groups=groups, now=NOW
    )
    assert (found["groups"], found["groups_omitted"]) == ([], True)
    assert len(sign(found, ECKey.generate_key("P-256"), kid="k" * 43)) < 1500


def test_texts_of_providers_are_cut() -> None:
    anna = Subject(kind=SubjectKind.USER, id="u_1", name="anna", shown_name="é" * 10_000)
    assert claims(anna)["name"] == "é" * 256


def test_the_signature_verifies() -> None:
    key = ECKey.generate_key("P-256")
    token = jwt.decode(sign(claims(ANNA), key, kid="k1").decode(), key, algorithms=["ES256"])
    assert token.header == {"alg": "ES256", "typ": "JWT", "kid": "k1"}
    assert token.claims == claims(ANNA)
