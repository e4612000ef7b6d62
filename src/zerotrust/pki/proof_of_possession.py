"""Signature that proves possession of the key of an expired certificate, which TLS refuses."""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from zerotrust.pki import keys

_PURPOSE: Final = (
    b"0trust: a new certificate in place of one that has ended, for the request that follows\0"
)
"""Prefix of the signed bytes, so that the signature serves no other purpose."""
_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)


def prove(key: keys.Key, csr_pem: bytes) -> bytes:
    """Sign the request for a new certificate with the key of the old one."""
    signed = _PURPOSE + csr_pem
    match key:
        case ed25519.Ed25519PrivateKey():
            return key.sign(signed)
        case rsa.RSAPrivateKey():
            return key.sign(signed, _PSS, hashes.SHA256())
        case ec.EllipticCurvePrivateKey():
            return key.sign(signed, ec.ECDSA(hashes.SHA256()))


def proves(key: object, csr_pem: bytes, proof: bytes) -> bool:
    """Return True if `proof` was made for this request with the private key of this public key."""
    signed, public = _PURPOSE + csr_pem, keys.strong(key)
    try:
        match public:
            case ed25519.Ed25519PublicKey():
                public.verify(proof, signed)
            case rsa.RSAPublicKey():
                public.verify(proof, signed, _PSS, hashes.SHA256())
            case ec.EllipticCurvePublicKey():
                public.verify(proof, signed, ec.ECDSA(hashes.SHA256()))
            case None:
                return False
    except InvalidSignature:
        return False
    return True
