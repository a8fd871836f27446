"""Resume tokens: made, taken apart, derived. Nothing here talks to the database.

A token is the base64url text of game id, session UUID and a 32-byte secret. The first two find
the session's row by its key; the secret alone opens it, and only its SHA-256 is ever stored.
"""

from __future__ import annotations

import binascii
import hmac
import secrets
from hashlib import sha256
from uuid import UUID

from attrs import field, frozen

from .arguments import plain_text, text_id
from .errors import InvalidArgument, InvalidToken

SECRET_BYTES = 32
_LONGEST = (200 * 4 + 16 + SECRET_BYTES) * 4 // 3 + 2

# Base64 as URLs want it.
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


@frozen
class Proof:
    """A secret's hash as it is sent to be compared: under a nonce used once.

    Whoever times the comparison learns nothing: what is compared is new with each call.
    """

    nonce: bytes = field(repr=False)
    blinded: bytes = field(repr=False)


@frozen
class ResumeToken:
    """A token taken apart."""

    game_id: str
    session_uuid: UUID
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: object) -> ResumeToken:
        """Takes a token apart, or raises `InvalidToken` without saying what is wrong with it."""
        text = plain_text(text)
        if text is None or len(text) > _LONGEST:
            raise InvalidToken
        try:
            padded = text.encode().translate(_FROM_URL) + b"=" * (-len(text) % 4)
            raw = binascii.a2b_base64(padded)  # skips what is no base64: see below
            locator, secret = raw[:-SECRET_BYTES], raw[-SECRET_BYTES:]
            token = cls(
                text_id("game_id", locator[:-16].decode()), UUID(bytes=locator[-16:]), secret
            )
        except (binascii.Error, ValueError, InvalidArgument):
            raise InvalidToken from None
        if token.text != text:  # one session, one secret, one spelling
            raise InvalidToken
        return token

    @property
    def text(self) -> str:
        raw = self.game_id.encode() + self.session_uuid.bytes + self.secret
        return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode()

    @property
    def hash(self) -> bytes:
        """What is stored."""
        return sha256(self.secret).digest()

    def prove(self) -> Proof:
        nonce = secrets.token_bytes(16)
        return Proof(nonce, sha256(self.hash + nonce).digest())

    def successor(self, salt: bytes) -> ResumeToken:
        """The token that follows this one under a salt: the same each time it is asked for.

        It takes the secret and the salt to compute it, so neither a copy of the database nor
        an older token alone is enough.
        """
        secret = hmac.digest(self.secret, salt, "sha256")
        return ResumeToken(self.game_id, self.session_uuid, secret)


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)
