"""Administrator of a server under measurement, signed in before the server starts."""

import hashlib
import secrets
from pathlib import Path
from typing import Any, Final

from zerotrust.db.database import Database
from zerotrust.db.state_dir import open_database
from zerotrust.model.access import Access
from zerotrust.model.database import DatabaseConfig
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.people import NewPasskey, People
from zerotrust.server.access.sign_ins import BrowserInfo, SignIns

NAME: Final = "bench"
GROUP: Final = "admins"


async def administrator_cookie(folder: Path, section: dict[str, Any]) -> str:
    """Sign a user in at the admin host; return the field `Cookie` of the browser.

    Args:
        folder: `state.dir` of the server, which does not run.
        section: its section `access`.
    """
    access = Access.model_validate(section)
    assert access.admin_host is not None
    database = open_database(DatabaseConfig.model_validate({"dir": str(folder)}))
    try:
        return f"Cookie: __Host-0trust={await _sign_in(database, access, access.admin_host)}"
    finally:
        database.close()


async def _sign_in(database: Database, access: Access, host: str) -> str:
    state = AccessState(database, access)
    await state.load()
    people, sign_ins = People(state), SignIns(state)
    invitation = await people.invite(NAME, email=None, groups=[GROUP], actor="benchmark")
    key = NewPasskey(
        credential_id=secrets.token_bytes(16),
        public_key=b"none: nobody signs with it",
        rp_id=access.auth_host,
        counter=0,
        backed_up=False,
        label="benchmark",
    )
    await people.accept_invitation(invitation.secret, key)
    browser = BrowserInfo(client="127.0.0.1", user_agent="0trust-bench")
    signed_in = await sign_ins.by_passkey(
        key.credential_id, browser, counter=0, backed_up=False, spent=secrets.token_bytes(32)
    )
    verifier = secrets.token_bytes(32)
    code = await sign_ins.hand_over(
        signed_in.credential,
        host=host,
        challenge=hashlib.sha256(verifier).digest(),
        target="/",
    )
    return (await sign_ins.accept_hand_over(code, host=host, verifier=verifier)).value
