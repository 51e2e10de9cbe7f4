"""Encrypts installation tokens, so that processes can share them through Redis, which contains no secret.

The key derives from the private key of the GitHub App. So only a process that could request such a token itself can
read one, and a new private key makes the stored tokens unreadable.
"""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12


class TokenSeal:
    """Encrypts and decrypts tokens with AES-GCM.

    Args:
        private_key: the App's private key (PEM).
        api_url: the API that issued the tokens. A token of another API cannot be decrypted.
    """

    def __init__(self, private_key: str, api_url: str) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"deployer: installation tokens")
        self._cipher = AESGCM(derived.derive(private_key.strip().encode()))
        self._api_url = api_url

    def seal(self, installation: int, token: str) -> str:
        """The encrypted token as text. It can be decrypted only for this installation."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, token.encode(), self._context(installation))
        return base64.b64encode(nonce + sealed).decode()

    def unseal(self, installation: int, sealed: str) -> str:
        """The token; empty if the text was not encrypted with this key for this installation."""
        try:
            data = base64.b64decode(sealed, validate=True)
            nonce, content = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, content, self._context(installation)).decode()
        except (binascii.Error, ValueError, InvalidTag):
            return ""

    def _context(self, installation: int) -> bytes:
        return f"{self._api_url} {installation}".encode()
