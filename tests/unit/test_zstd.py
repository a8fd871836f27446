"""Compression: equal after the round trip, bounded whatever a row claims, absent without harm."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import threading
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from probes import at_once

from registry import RegistryError, zstd
from registry.config import LARGEST_MESSAGE
from registry.extras import install
from registry.payloads import JSON, RAW
from registry.zstd import Zstd, expanded, why_unreadable

zstandard = pytest.importorskip("zstandard")

MOVES = [b'{"move":"%c%d","by":"white","n":%d}' % (97 + n % 8, n % 8, n) for n in range(3_000)]
DICTIONARY = zstd.train(MOVES, 2_048)


@pytest.fixture(params=[b"", DICTIONARY], ids=["plain", "dictionary"])
def scheme(request: pytest.FixtureRequest) -> Zstd:
    return Zstd.by(request.param)


def test_what_goes_in_comes_out(scheme: Zstd) -> None:
    @given(st.binary(max_size=300) | st.binary(max_size=20).map(lambda some: some * 200))
    @example(b"")
    @example(MOVES[7])
    @example(b"\0" * 1_000_000)
    def holds(data: bytes) -> None:
        made = scheme.compress(data)
        for kind in (RAW, JSON):
            assert expanded(2 * 1 + kind, made, {1: scheme}) == (kind, data)
        assert expanded(RAW, data, {}) == (RAW, data)

    holds()


def test_a_dictionary_makes_small_payloads_smaller_and_does_not_name_itself() -> None:
    with_it, without = Zstd.by(DICTIONARY), Zstd.by(b"")
    made = [with_it.compress(move) for move in MOVES[::50]]
    assert sum(map(len, made)) < 0.6 * sum(map(len, MOVES[::50]))
    assert sum(map(len, made)) < 0.7 * sum(len(without.compress(move)) for move in MOVES[::50])
    with pytest.raises(ValueError, match="not a frame"):
        without.decompress(made[3])


@pytest.mark.parametrize("scheme", [b"", DICTIONARY], indirect=True)
def test_damage_is_an_error_or_another_payload_but_never_more(scheme: Zstd) -> None:
    chance = random.Random(7)
    for _ in range(3_000):
        data = bytearray(scheme.compress(chance.choice(MOVES) * chance.randint(1, 20)))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = bytes(data[: chance.randint(0, len(data))]) + chance.choice([b"", b"\0", b"more"])
        with suppress(ValueError):  # and nothing else
            assert len(scheme.decompress(cut)) <= LARGEST_MESSAGE


def test_what_a_row_claims_beyond_any_payload_is_not_believed(scheme: Zstd) -> None:
    # A frame header: single segment, the size of the content in eight bytes.
    for claimed in (LARGEST_MESSAGE + 1, 2**40, 2**63, 2**64 - 1, 2**64 - 2):
        tracemalloc.start()
        with pytest.raises(ValueError, match="not a frame"):
            scheme.decompress(b"\xe0" + claimed.to_bytes(8, "little") + b"\x01\x00\x00")
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()
    unsaid = zstandard.ZstdCompressionParameters.from_level(
        3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
    )
    with pytest.raises(ValueError, match="not a frame"):
        scheme.decompress(zstandard.ZstdCompressor(compression_params=unsaid).compress(b"x" * 99))


def test_threads_do_not_mingle(scheme: Zstd) -> None:
    def work(seed: int) -> bool:
        mine = [bytes(random.Random(seed * 1_000 + n).choices(b"abc", k=2_000)) for n in range(150)]
        made = [scheme.compress(data) for data in mine]
        return [scheme.decompress(data) for data in made] == mine

    assert at_once([lambda seed=seed: work(seed) for seed in range(8)]) == [True] * 8


def test_each_thread_has_a_compressor_of_its_own(scheme: Zstd) -> None:
    seen = [scheme.compress]
    thread = threading.Thread(target=lambda: seen.append(scheme.compress))
    thread.start()
    thread.join()
    assert seen[0].__self__ is not seen[1].__self__


def test_it_goes_to_another_process(scheme: Zstd) -> None:
    copy = pickle.loads(pickle.dumps(scheme))
    assert copy.decompress(scheme.compress(MOVES[5])) == MOVES[5]


@pytest.mark.parametrize("samples", [[], [b"x"], [b""] * 9, MOVES[:3]])
def test_too_little_to_train_on_is_said(samples: list[bytes]) -> None:
    with pytest.raises(RegistryError, match="not enough"):
        zstd.train(samples, 16_384)


def test_why_a_row_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    some = {1: Zstd.by(b"")}
    assert why_unreadable(1, {}) == why_unreadable(3, some)
    assert "damaged" in why_unreadable(3, some)
    assert "dictionary 4 is not in payload_dictionary" in why_unreadable(11, some)
    monkeypatch.setattr(zstd, "INSTALLED", False)
    assert install("compression") in why_unreadable(11, {})


def test_without_the_extra_everything_but_compression_works() -> None:
    program = """
import sys
sys.modules["zstandard"] = None
from psycopg_pool import ConnectionPool
from registry import GameSessionRegistry, InvalidArgument, RegistryConfig
pool = ConnectionPool("", open=False)
GameSessionRegistry(pool)
try:
    GameSessionRegistry(pool, config=RegistryConfig(compression="zstd"))
except InvalidArgument as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert install("compression") in done.stdout
