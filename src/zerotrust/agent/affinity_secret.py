"""The secret of the cookies of session affinity, kept in a file of its own.

It begins as a child of the agent's private key. A renewal of the certificate brings another key, and clients have to
stay with their upstreams all the same: so what was derived first is kept beside the key.
"""

from pathlib import Path

from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.pki import keys
from zerotrust.pki.key_derivation import SECRET_BYTES, derive
from zerotrust.telemetry import logs

_log = logs.logger("affinity")


def cookie_secret(config: AgentConfig) -> bytes:
    """The secret; empty where no service needs one.

    Raises:
        PkiError: the agent's private key can't be read.
    """
    if not any(service.load_balancing.session_affinity for service in config.services):
        return b""
    key = Path(config.server.key)
    kept = key.with_suffix(".affinity")
    try:
        secret = kept.read_bytes()
    except OSError:
        secret = b""
    if len(secret) == SECRET_BYTES:
        return secret
    secret = derive(key, "session affinity")
    try:
        keys.write(kept, secret, mode=keys.PRIVATE, replace=True)
    except PkiError as error:
        _log.warning("the cookies of session_affinity end with the agent's certificate", reason=str(error))
    return secret
