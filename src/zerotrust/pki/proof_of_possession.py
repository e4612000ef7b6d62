"""A signature that shows who has the key of a certificate that TLS no longer takes, and what for."""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from zerotrust.pki import keys

_PURPOSE: Final = b"0trust: a new certificate in place of one that has ended, for the request that follows\0"
"""What is signed begins with this, so that a signature is good for nothing else."""
_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)


def prove(key: keys.Key, csr_pem: bytes) -> bytes:
    """Sign the request for a new certificate with the key of the old one."""
    said = _PURPOSE + csr_pem
    match key:
        case ed25519.Ed25519PrivateKey():
            return key.sign(said)
        case rsa.RSAPrivateKey():
            return key.sign(said, _PSS, hashes.SHA256())
        case ec.EllipticCurvePrivateKey():
            return key.sign(said, ec.ECDSA(hashes.SHA256()))


def proves(key: object, csr_pem: bytes, proof: bytes) -> bool:
    """The proof was made with the private key of this public one, for this request."""
    said, public = _PURPOSE + csr_pem, keys.strong(key)
    try:
        match public:
            case ed25519.Ed25519PublicKey():
                public.verify(proof, said)
            case rsa.RSAPublicKey():
                public.verify(proof, said, _PSS, hashes.SHA256())
            case ec.EllipticCurvePublicKey():
                public.verify(proof, said, ec.ECDSA(hashes.SHA256()))
            case None:
                return False
    except InvalidSignature:
        return False
    return True
