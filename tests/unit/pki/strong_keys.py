"""Kinds of keys that certificates may have, each with how it is generated."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from zerotrust.pki import keys

GENERATORS: Final[Mapping[str, Callable[[], keys.Key]]] = {
    "P-256": keys.generate,
    "P-384": partial(ec.generate_private_key, ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": partial(rsa.generate_private_key, 65537, 2048),
}
