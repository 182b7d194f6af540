"""Secrets at rest: AES-256-GCM under a key derived (HKDF) from the service's secret."""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.domain.errors import OffbeatError

_VERSION = "v1."
_NONCE_BYTES = 12


class CryptoError(OffbeatError):
    """What was stored cannot be opened: another secret key, another place, or changed since."""


def derive(key: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose, so that no two uses of the service's secret share a key."""
    return HKDF(SHA256(), 32, salt=None, info=f"offbeat {purpose}".encode()).derive(key)


def _token(sealed: bytes) -> str:
    return _VERSION + base64.urlsafe_b64encode(sealed).decode()


class SecretBox:
    """Seals what must be readable again, e.g. a channel's webhook address.

    `context` says where the secret belongs (`channel:<tenant>:<name>`). It is authenticated, so a
    token copied to another row or tenant does not open there.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(derive(key, "secrets at rest"))

    def seal(self, plaintext: bytes, context: str) -> str:
        """A printable token; another one each time."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, plaintext, context.encode())
        return _token(sealed)

    def open(self, token: str, context: str) -> bytes:
        """What was sealed; `CryptoError` if the token is not ours, of elsewhere, or changed."""
        if not token.startswith(_VERSION):
            raise CryptoError(f"the secret of {context} is not in a format that this version reads")
        try:
            sealed = base64.b64decode(token[len(_VERSION) :], altchars=b"-_", validate=True)
            if token != _token(sealed):  # base64 has spare bits: other letters, the same bytes
                raise ValueError("changed")
            return self._cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode()
            )
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise CryptoError(
                f"the secret of {context} does not open: "
                "OFFBEAT_SECRET_KEY is another one than when it was stored, or it was changed"
            ) from error
