"""Application of database readings to the index of credentials."""

import math
from sys import intern

from zerotrust.access.subject import (
    ACCESS_WITHDRAWN,
    SESSION_ENDED,
    Credential,
    CredentialKind,
    Subject,
    SubjectKind,
)
from zerotrust.accounts import changes
from zerotrust.accounts.live_state import LiveLink, LivePass, LiveSignIn, LiveState, LiveToken
from zerotrust.model.access import Access
from zerotrust.server.access.credential_index import CredentialIndex
from zerotrust.server.access.subjects import EVERY_PROVIDER, Subjects

_KINDS = {
    changes.SIGN_IN: CredentialKind.SIGN_IN,
    changes.PASS: CredentialKind.PASS,
    changes.TOKEN: CredentialKind.TOKEN,
}
_MADE_FROM_PIN = "pin"


class IndexUpdates:
    """Brings index and subjects to the state of a reading, in the loop's thread.

    Args:
        seen_late: seconds by which `seen_at` may be late here, because other servers write it.

    Attributes:
        access: the configuration; it applies to the sign-ins that are read from now on.
    """

    def __init__(
        self, index: CredentialIndex, subjects: Subjects, access: Access, *, seen_late: float
    ) -> None:
        self._index = index
        self._subjects = subjects
        self._seen_late = seen_late
        self.access = access
        self._changed = False

    def apply(self, state: LiveState) -> bool:
        """Apply a reading; return True if a credential has ended or changed its subject."""
        self._changed = False
        self._apply_users(state)
        for sign_in in state.sign_ins:
            self._apply_sign_in(sign_in)
        for made in state.passes:
            self._apply_pass(made, state)
        for token in state.tokens:
            self._apply_token(token)
        if state.complete:
            self._end_missing(state)
        for kind, subject in state.gone:
            if kind == changes.USER:
                self._subjects.remove(subject)
                self._end_all_of(subject)
            elif credential := self._index.get(_KINDS[kind], subject):
                self._end(credential, ACCESS_WITHDRAWN)
        return self._changed

    def refresh_users(self) -> bool:
        """Give all credentials the subjects of the users' new groups; return True if one
        changed."""
        self._changed = False
        for user_id in self._subjects.ids():
            self.refresh_user(user_id)
        return self._changed

    def refresh_user(self, user_id: str) -> None:
        """Give the credentials of a user the subject that the user has now; or end them."""
        if not self._subjects.is_active(user_id):
            self._end_all_of(user_id)
            return
        lends = self._subjects.may_lend(user_id)
        for credential in self._index.of_user(user_id):
            if not lends and credential.subject.kind is not SubjectKind.USER:
                self._end(credential, ACCESS_WITHDRAWN)
                continue
            subject = self._fresh(user_id, credential)
            if subject is not None and self._index.replace_subject(credential, subject):
                self._changed = True

    def _apply_users(self, state: LiveState) -> None:
        if state.complete:
            there = {user.id for user in state.users}
            for user_id in set(self._subjects.ids()) - there:
                self._subjects.remove(user_id)
                self._end_all_of(user_id)
        for user in state.users:
            self._subjects.put(user)
            self.refresh_user(user.id)

    def _apply_sign_in(self, row: LiveSignIn) -> None:
        known = self._index.get(CredentialKind.SIGN_IN, str(row.number))
        provided = not row.provider or row.provider in self.access.identity_providers
        if row.ended_at is not None or not self._subjects.is_active(row.user_id) or not provided:
            if known is not None:
                self._end(known, row.why or ACCESS_WITHDRAWN)
            return
        subject = self._subjects.of(row.user_id, row.provider)
        if subject is None:
            return
        device = row.method == "device"
        sessions = self.access.sessions
        lifetime = sessions.device_lifetime if device else sessions.lifetime
        ends_at = min(float(row.ends_at), row.created_at + lifetime)
        idle = 0.0 if device else sessions.idle + self._seen_late
        if known is not None:
            known.ends_at, known.idle = ends_at, idle
            known.seen_at = max(known.seen_at, float(row.seen_at))
            if known.proven_at != row.proven_at:
                for changed in (known, *self._index.passes_of(known)):
                    changed.proven_at = float(row.proven_at)
                    changed.verdicts = None
            return
        self._index.add(
            Credential(
                CredentialKind.SIGN_IN,
                str(row.number),
                digest=row.digest,
                subject=subject,
                ends_at=ends_at,
                seen_at=float(row.seen_at),
                proven_at=float(row.proven_at),
                idle=idle,
                method=row.method,
            )
        )

    def _apply_pass(self, row: LivePass, state: LiveState) -> None:
        known = self._index.get(CredentialKind.PASS, str(row.number))
        if known is not None:
            if row.ended_at is not None:
                self._end(known, SESSION_ENDED if row.sign_in is not None else ACCESS_WITHDRAWN)
            return
        if row.ended_at is not None:
            return
        if row.sign_in is not None:
            sign_in = self._index.get(CredentialKind.SIGN_IN, str(row.sign_in))
            if sign_in is not None:
                self._index.add(_pass_of_sign_in(row, sign_in))
        elif row.link_id is not None and row.link_id in state.links:
            self._add_pass_of_link(row, state.links[row.link_id])
        elif row.kind == _MADE_FROM_PIN:
            self._index.add(_pass_without_user(row, f"pin:{row.host}"))

    def _add_pass_of_link(self, row: LivePass, link: LiveLink) -> None:
        creator = self._subjects.of(link.created_by, EVERY_PROVIDER)
        if creator is None or self._subjects.may_lend(link.created_by):
            made = _pass_without_user(row, f"link:{row.link_id}", creator)
            made.path, made.methods = link.path, link.methods
            self._index.add(made)

    def _apply_token(self, row: LiveToken) -> None:
        known = self._index.get(CredentialKind.TOKEN, row.id)
        active = row.user_id is None or self._subjects.may_lend(row.user_id)
        if row.revoked_at is not None or not active:
            if known is not None:
                self._end(known, ACCESS_WITHDRAWN)
            return
        ends_at = math.inf if row.expires_at is None else float(row.expires_at)
        if known is not None:
            known.ends_at = ends_at
            return
        self._index.add(
            Credential(
                CredentialKind.TOKEN,
                row.id,
                digest=row.digest,
                subject=self._token_subject(row),
                ends_at=ends_at,
                hosts=tuple(row.hosts),
                admin=row.admin,
            )
        )

    def _token_subject(self, row: LiveToken) -> Subject:
        kind = SubjectKind(row.kind)
        owner = None if row.user_id is None else self._subjects.of(row.user_id, EVERY_PROVIDER)
        return Subject(
            kind=kind,
            id=f"{row.kind}:{row.name}",
            name=row.name,
            shown_name=row.name,
            owner=owner,
        )

    def _fresh(self, user_id: str, credential: Credential) -> Subject | None:
        before = credential.subject
        if before.kind is SubjectKind.USER:
            return self._subjects.of(user_id, before.provider)
        return Subject(
            kind=before.kind,
            id=before.id,
            name=before.name,
            shown_name=before.shown_name,
            owner=self._subjects.of(user_id, EVERY_PROVIDER),
        )

    def _end_missing(self, state: LiveState) -> None:
        """End what a complete reading does not have any more."""
        there = {
            CredentialKind.SIGN_IN: {str(row.number) for row in state.sign_ins},
            CredentialKind.PASS: {str(row.number) for row in state.passes},
            CredentialKind.TOKEN: {row.id for row in state.tokens},
        }
        for kind, ids in there.items():
            for credential in self._index.of_kind(kind):
                if credential.id not in ids:
                    self._end(credential, SESSION_ENDED)

    def _end_all_of(self, user_id: str) -> None:
        for credential in self._index.of_user(user_id):
            self._end(credential, ACCESS_WITHDRAWN)

    def _end(self, credential: Credential, reason: str) -> None:
        if self._index.end(credential, reason):
            self._changed = True


def _pass_of_sign_in(row: LivePass, sign_in: Credential) -> Credential:
    return Credential(
        CredentialKind.PASS,
        str(row.number),
        digest=row.digest,
        subject=sign_in.subject,
        ends_at=float(row.ends_at),
        proven_at=sign_in.proven_at,
        method=sign_in.method,
        sign_in=sign_in,
        host=intern(row.host),
    )


def _pass_without_user(
    row: LivePass, subject_id: str, creator: Subject | None = None
) -> Credential:
    kind = SubjectKind(row.kind)
    return Credential(
        CredentialKind.PASS,
        str(row.number),
        digest=row.digest,
        subject=Subject(kind=kind, id=subject_id, shown_name=subject_id, owner=creator),
        ends_at=float(row.ends_at),
        host=intern(row.host),
    )
