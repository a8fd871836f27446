"""The proxy: what it lets through comes out as it went in, and each fault does what it says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import wait_until

from chaos.proxy import Proxy, Weather

WAIT = 10.0
SOON = 0.2
"""Seconds in which what is not coming would have come."""


class Pair:
    """A client's and a server's end of one connection through the proxy."""

    def __init__(self, proxy: Proxy, listener: socket.socket) -> None:
        self.client = socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT)
        self.server, _ = listener.accept()
        self.server.settimeout(WAIT)
        wait_until(proxy.connections)

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(seed=1) as proxy:
        yield proxy


@pytest.fixture
def listener(proxy: Proxy, tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        proxy.socket = str(tmp_path / "server")
        listener.bind(proxy.socket)
        listener.listen()
        listener.settimeout(WAIT)
        yield listener


@pytest.fixture
def pair(proxy: Proxy, listener: socket.socket) -> Iterator[Pair]:
    pair = Pair(proxy, listener)
    yield pair
    pair.close()


def received(end: socket.socket, size: int) -> bytes:
    """That many bytes, or what there was before the end."""
    data = b""
    while len(data) < size and (more := end.recv(size - len(data))):
        data += more
    return data


def nothing_comes(end: socket.socket) -> bool:
    end.settimeout(SOON)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(WAIT)
    return False


def ended(end: socket.socket) -> bool:
    try:
        return end.recv(1) == b""
    except ConnectionError:
        return True


def test_what_is_sent_comes_out_as_it_went_in_both_ways(pair: Pair) -> None:
    data = bytes(range(256)) * 4_000
    sender = threading.Thread(target=pair.client.sendall, args=[data])
    sender.start()
    assert received(pair.server, len(data)) == data
    sender.join()
    pair.server.sendall(b"answer")
    assert received(pair.client, 6) == b"answer"


def test_each_side_learns_that_the_other_has_closed(pair: Pair) -> None:
    pair.client.close()
    assert ended(pair.server)


def test_a_client_is_refused_when_no_server_is_there(proxy: Proxy, tmp_path: Path) -> None:
    proxy.socket = str(tmp_path / "nobody")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT) as client:
        assert ended(client)


def test_a_cut_lets_some_bytes_through_and_ends_both_sides(proxy: Proxy, pair: Pair) -> None:
    proxy.cut("to server", most_bytes=100)
    pair.client.sendall(bytes(100))
    assert len(received(pair.server, 100)) < 100
    assert ended(pair.client)
    wait_until(lambda: proxy.connections() == 0)


def test_half_open_loses_one_direction_for_good_and_not_the_other(
    proxy: Proxy, pair: Pair, listener: socket.socket
) -> None:
    proxy.set("to server", Weather(drop=True))
    pair.client.sendall(b"lost")
    assert nothing_comes(pair.server)
    pair.server.sendall(b"news")
    assert received(pair.client, 4) == b"news"
    proxy.set("to server", Weather())
    pair.client.sendall(b"after a hole")
    assert nothing_comes(pair.server)
    pair.client.close()
    assert nothing_comes(pair.server)
    proxy.heal()
    assert ended(pair.server)
    other = Pair(proxy, listener)
    other.client.sendall(b"well")
    assert received(other.server, 4) == b"well"
    other.close()


def test_a_client_that_vanishes_is_gone_for_itself_and_not_for_the_server(
    proxy: Proxy, pair: Pair
) -> None:
    proxy.vanish(most_bytes=100)
    pair.client.sendall(bytes(100))
    assert ended(pair.client)
    pair.server.settimeout(SOON)
    with pytest.raises(TimeoutError):
        received(pair.server, 100)
    pair.server.sendall(b"hello?")
    assert nothing_comes(pair.server)
    proxy.heal()
    assert ended(pair.server)


def test_what_lost_nothing_lives_on_when_the_proxy_is_healed(proxy: Proxy, pair: Pair) -> None:
    proxy.set("to server", Weather(drop=True))
    proxy.heal()
    pair.client.sendall(b"still")
    assert received(pair.server, 5) == b"still"


def test_a_delay_holds_back_and_a_low_rate_takes_its_time(proxy: Proxy, pair: Pair) -> None:
    proxy.set("to server", Weather(delay=0.2, jitter=0.05))
    begin = time.monotonic()
    pair.client.sendall(b"late")
    assert received(pair.server, 4) == b"late"
    assert time.monotonic() - begin > 0.14
    proxy.set("to server", Weather(rate=1_000))
    begin = time.monotonic()
    pair.client.sendall(bytes(200))
    assert received(pair.server, 200) == bytes(200)
    assert time.monotonic() - begin > 0.15
