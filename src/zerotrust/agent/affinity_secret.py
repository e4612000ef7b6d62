"""Secret for the cookies of session affinity, in a file beside the agent's private key.

It is derived from the first private key. A renewed certificate has another key, but clients must
stay with their upstreams. So the agent keeps the first secret in a file.
"""

from pathlib import Path

from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.pki import keys
from zerotrust.pki.key_derivation import SECRET_BYTES, derive
from zerotrust.telemetry import logs

_log = logs.logger("affinity")


def cookie_secret(config: AgentConfig) -> bytes:
    """Return the secret; empty if no service uses session affinity.

    Raises:
        PkiError: the agent's private key can't be read.
    """
    if not any(service.load_balancing.session_affinity for service in config.services):
        return b""
    key = Path(config.server.key)
    path = key.with_suffix(".affinity")
    try:
        secret = path.read_bytes()
    except OSError:
        secret = b""
    if len(secret) == SECRET_BYTES:
        return secret
    secret = derive(key, "session affinity")
    try:
        keys.write(path, secret, mode=keys.PRIVATE, replace=True)
    except PkiError as error:
        _log.warning(
            "cannot save the secret of session_affinity; cookies are void after the next"
            " certificate renewal",
            reason=str(error),
        )
    return secret
