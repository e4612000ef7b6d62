"""Tests of zerotrust.model.doctor."""

from zerotrust.model.doctor import Finding


def test_a_finding_is_one_sentence() -> None:
    finding = Finding(
        check="a.b", level="broken", subject="x", what="it is broken", fix="repair it"
    )
    assert str(finding) == "it is broken; repair it"
    seen = finding.model_copy(update={"seen": "smoke"})
    assert str(seen) == "it is broken (smoke); repair it"
