"""Payloads compressed by zstd, with a dictionary or without.

The codec of a row is 2 x scheme, and 1 more for JSON. Scheme 0 is plain, 1 is zstd without a
dictionary, 1 + n is zstd with the dictionary n.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from .config import LARGEST_MESSAGE
from .errors import PayloadUnreadable, RegistryError
from .extras import install
from .payloads import JSON

try:
    import zstandard
except ModuleNotFoundError:  # the extra `compression` is not installed
    zstandard = None  # type: ignore[assignment]

INSTALLED = zstandard is not None

SIZES = 256, 2**20
"""Bytes, from and to, that a dictionary can be asked to have at most."""

_LEVEL = 3


def missing() -> str:
    """Says what to install."""
    return f"zstandard is not installed here: {install('compression')}"


class Zstd(threading.local):
    """Compresses and decompresses by one dictionary, or by none.

    Safe from any thread: they share the dictionary, and each makes a compressor of its own at its
    first use, which is what zstd asks for.
    """

    def __init__(self, known: zstandard.ZstdCompressionDict | None) -> None:
        self._known = known
        self._format = zstandard.FORMAT_ZSTD1_MAGICLESS
        self.compress = zstandard.ZstdCompressor(
            compression_params=_parameters(), dict_data=known
        ).compress
        self._decompress = zstandard.ZstdDecompressor(
            dict_data=known, format=self._format
        ).decompress

    @classmethod
    def by(cls, dictionary: bytes) -> Zstd:
        """By the dictionary of these bytes; b"" is none."""
        if not INSTALLED:
            raise RegistryError(missing())
        if not dictionary:
            return cls(None)
        known = zstandard.ZstdCompressionDict(dictionary)
        known.precompute_compress(compression_params=_parameters())
        return cls(known)

    def __reduce__(self) -> tuple[Callable[[bytes], Zstd], tuple[bytes]]:
        return Zstd.by, (self._known.as_bytes() if self._known else b"",)

    def decompress(self, data: bytes) -> bytes:
        """Raises ValueError for what `compress` has not made.

        What a damaged row claims to be is believed up to `LARGEST_MESSAGE` bytes: no payload
        could ever be larger, whatever `max_payload_bytes` was.
        """
        try:
            claimed = zstandard.get_frame_parameters(data, format=self._format).content_size
            if claimed <= LARGEST_MESSAGE:
                return self._decompress(data, allow_extra_data=False)
        except zstandard.ZstdError:
            pass
        raise ValueError("not a frame of this dictionary")


def _parameters() -> zstandard.ZstdCompressionParameters:
    # A frame says nothing that the row says already. The size of its content costs no byte in a
    # small one, and without it a reader could not tell how much to make room for.
    return zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_checksum=False,
        write_dict_id=False,
        write_content_size=True,
    )


Schemes = Mapping[int, Zstd]
"""What compressed rows are read by, for each scheme but 0."""


def expanded(codec: int, data: bytes, schemes: Schemes) -> tuple[int, bytes]:
    """The plain codec and bytes of a row.

    Raises KeyError when its scheme is none of these, ValueError when it was damaged.
    """
    return (codec & 1, schemes[codec >> 1].decompress(data)) if codec > JSON else (codec, data)


def why_unreadable(codec: int, schemes: Schemes) -> str:
    """What to do about a row that could not be expanded or decoded."""
    if codec <= JSON or codec >> 1 in schemes:
        return PayloadUnreadable.DAMAGED
    if not INSTALLED:
        return f"it is compressed, and {missing()}"
    return (
        f"its dictionary {(codec >> 1) - 1} is not in payload_dictionary: restore that row from "
        "a backup, or prune_events past the event, or end_game"
    )


def train(samples: Sequence[bytes], size: int) -> bytes:
    """A dictionary of at most `size` bytes for what is like these.

    Raises `RegistryError` when they are too few or too small.
    """
    if not INSTALLED:
        raise RegistryError(missing())
    try:
        return zstandard.train_dictionary(size, list(samples)).as_bytes()
    except (zstandard.ZstdError, ValueError):
        raise RegistryError(
            f"{len(samples):,} events of {sum(map(len, samples)):,} bytes together are not enough "
            f"to train a dictionary of {size:,} bytes on: record more first"
            f"{', or ask for a smaller one' if samples else ''}"
        ) from None
