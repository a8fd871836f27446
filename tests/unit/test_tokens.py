"""Resume tokens as texts: what they hold, how they are taken apart, what they refuse."""

from __future__ import annotations

import base64
import hashlib
import re
import string
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry import InvalidToken
from registry.tokens import SECRET_BYTES, ResumeToken, new_secret

GAME_IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
TOKENS = st.builds(
    ResumeToken,
    GAME_IDS.map(lambda text: text[:200]),
    st.uuids(),
    st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES),
)


def a_token(game_id: str = "chess") -> ResumeToken:
    return ResumeToken(game_id, uuid4(), new_secret())


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@given(TOKENS)
@example(ResumeToken("\U0001f3b2" * 200, UUID(int=0), b"\0" * SECRET_BYTES))
@example(ResumeToken("a/b", UUID(int=2**128 - 1), b"\xff" * SECRET_BYTES))
def test_a_token_taken_apart_is_what_it_was_made_of(token: ResumeToken) -> None:
    assert ResumeToken.parse(token.text) == token


@given(TOKENS)
def test_a_token_is_url_safe(token: ResumeToken) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token.text)


def test_a_secret_has_at_least_256_bits_and_is_never_the_same() -> None:
    secrets = {new_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    assert {len(secret) * 8 for secret in secrets} == {256}
    assert len({byte for secret in secrets for byte in secret}) == 256


def test_what_is_stored_is_the_sha256_of_the_secret() -> None:
    token = a_token()
    assert token.hash == hashlib.sha256(token.secret).digest()


@given(TOKENS, st.data())
def test_a_token_changed_in_one_character_is_another_token_or_none(
    token: ResumeToken, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(token.text) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_"))
    changed = token.text[:place] + other + token.text[place + 1 :]
    if changed == token.text:
        return
    try:
        parsed = ResumeToken.parse(changed)
    except InvalidToken:
        return
    assert parsed != token  # one session, one secret, one spelling


def malformed() -> list[object]:
    text = a_token().text
    whole = b"chess" + uuid4().bytes + new_secret()
    return [
        None,
        b"bytes",
        17,
        ["a"],
        "",
        "=",
        "a",
        "not a token",
        "tökén",
        "\ud800",
        "a\0b",
        text + "=",
        text + "==",
        text + "\n",
        " " + text,
        text + "A" * 4000,
        "A" * 10_000_000,
        b64(whole).replace("-", "+").replace("_", "/") + "+",
        b64(uuid4().bytes + new_secret()),  # no game
        b64(new_secret()),
        b64(b"\0" + uuid4().bytes + new_secret()),
        b64(b"\xff" + uuid4().bytes + new_secret()),
        b64("\ud800".encode("utf-8", "surrogatepass") + uuid4().bytes + new_secret()),
        b64(b"g" * 201 + uuid4().bytes + new_secret()),
    ]


@pytest.mark.parametrize("text", malformed(), ids=lambda _: "")
def test_every_malformed_token_is_the_same_invalid_token(text: object) -> None:
    with pytest.raises(InvalidToken) as caught:
        ResumeToken.parse(text)
    assert str(caught.value) == str(InvalidToken())
    assert vars(caught.value) == {}


def test_the_standard_alphabet_is_another_spelling_and_refused() -> None:
    token = ResumeToken("g", UUID(int=0), b"\xfb\xff" * 16)
    assert {"-", "_"} & set(token.text)
    with pytest.raises(InvalidToken):
        ResumeToken.parse(token.text.replace("-", "+").replace("_", "/"))


@given(TOKENS, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_successor_is_the_same_each_time_and_another_under_another_salt(
    token: ResumeToken, salt: bytes, other: bytes
) -> None:
    successor = token.successor(salt)
    assert successor == token.successor(salt)
    assert (successor == token.successor(other)) == (salt == other)
    assert (successor.game_id, successor.session_uuid) == (token.game_id, token.session_uuid)
    assert successor.secret != token.secret
    assert len(successor.secret) == SECRET_BYTES


def test_a_successor_takes_the_secret_and_not_only_what_is_stored() -> None:
    token, salt = a_token(), new_secret()
    from_the_database = ResumeToken(token.game_id, token.session_uuid, token.hash)
    assert from_the_database.successor(salt) != token.successor(salt)


def test_a_proof_fits_its_own_hash_only_and_is_new_each_time() -> None:
    token, other = a_token(), a_token()
    first, second = token.prove(), token.prove()
    assert first.blinded == hashlib.sha256(token.hash + first.nonce).digest()
    assert first.blinded != hashlib.sha256(other.hash + first.nonce).digest()
    assert first.nonce != second.nonce
    assert first.blinded != second.blinded
    assert token.hash not in (first.nonce, first.blinded)


def test_no_secret_shows_in_a_repr() -> None:
    token = a_token()
    proof = token.prove()
    shown = repr(token) + str(token) + repr(proof)
    for hidden in (token.secret, token.hash, proof.nonce, proof.blinded):
        assert repr(hidden) not in shown
        assert hidden.hex() not in shown
    assert token.text not in shown
