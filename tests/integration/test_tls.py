"""Over TLS, with passwords that are never sent: a server of the system's, which has OpenSSL.

The embedded server has none. Where the machine has no other, these are skipped, but not on CI.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
import trustme
from attrs import frozen
from probes import PATIENT
from psycopg.conninfo import make_conninfo
from support import free_port

from registry import GameSessionRegistry, RegistryConfig, RegistryUnavailable, migrate, schema

pytestmark = pytest.mark.owner

PASSWORD = "correct-horse-battery-staple"
BRIEF = RegistryConfig(pool_timeout=2, pool_min_size=1)
HBA = """
local   all all         trust
hostssl all all 0.0.0.0/0 scram-sha-256
"""


def programs() -> Path | None:
    """The folder of the newest server of the system's."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])
    )
    beside = shutil.which("initdb")
    return found[-1].parent if found else Path(beside).parent if beside else None


@frozen
class Encrypted:
    """A server that is reached over TLS only."""

    owner: str
    conninfo: str
    """Of an application's role with a password, checking the server's certificate."""
    stranger: str
    """The certificate of an authority that did not sign the server's."""


def as_server(folder: Path) -> dict[str, object]:
    """As root, which PostgreSQL refuses: who runs it, and that it may use the folder."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def server() -> Iterator[Encrypted]:
    bin_ = programs()
    if bin_ is None:
        assert not os.environ.get("CI"), "install PostgreSQL: apt-get install postgresql"
        pytest.skip("there is no PostgreSQL with TLS on this machine")
    folder = Path(tempfile.mkdtemp(prefix="registry-tls-", dir="/tmp"))
    data = folder / "data"
    account = as_server(folder)

    def run(program: str, *arguments: object) -> None:
        command: Sequence[str] = [str(bin_ / program), *map(str, arguments)]
        # To a file: the server would keep a pipe open.
        with (folder / "said").open("ab") as said:
            done = subprocess.run(command, stdout=said, stderr=said, cwd="/", **account)  # type: ignore[call-overload]
        assert done.returncode == 0, (folder / "said").read_text()

    try:
        run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        (data / "pg_hba.conf").write_text(HBA)
        authority, stranger = trustme.CA(), trustme.CA()
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(data / "server.key")
        certificate.cert_chain_pems[0].write_to_path(data / "server.crt")
        (data / "server.key").chmod(0o600)
        authority.cert_pem.write_to_path(folder / "ca.pem")
        stranger.cert_pem.write_to_path(folder / "stranger.pem")
        as_server(folder)
        port = free_port()
        options = (
            f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c ssl=on -c fsync=off "
            "-c password_encryption=scram-sha-256"
        )
        run("pg_ctl", "start", "-w", "-s", "-D", data, "-o", options, "-l", folder / "log")
        try:
            owner = make_conninfo(host=str(folder), port=port, user="postgres", dbname="postgres")
            migrate(owner)
            with psycopg.connect(owner) as connection:
                connection.execute(f"CREATE ROLE player LOGIN PASSWORD '{PASSWORD}'".encode())
            schema.grant(owner, "player")
            conninfo = make_conninfo(
                host="localhost",
                hostaddr="127.0.0.1",
                port=port,
                user="player",
                dbname="postgres",
                password=PASSWORD,
                sslmode="verify-full",
                sslrootcert=str(folder / "ca.pem"),
                channel_binding="require",
            )
            yield Encrypted(owner, conninfo, str(folder / "stranger.pem"))
        finally:
            run("pg_ctl", "stop", "-m", "immediate", "-s", "-D", data)
    finally:
        shutil.rmtree(folder)


def test_a_registry_works_over_tls_with_scram_bound_to_the_channel(server: Encrypted) -> None:
    with GameSessionRegistry.connect(server.conninfo, config=RegistryConfig(**PATIENT)) as registry:
        issued = registry.issue_resume_token("chess", "alice")
        registry.record_events("chess", ["e4", {"move": "e5"}, b"\0"])
        resumed = registry.resume(issued.token, after=1)
        assert [event.payload for event in resumed.replay.events] == [{"move": "e5"}, b"\0"]
        with psycopg.connect(server.owner) as connection:
            query = """
                SELECT ssl, version, rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_stat_ssl
                JOIN pg_stat_activity USING (pid) JOIN pg_authid ON rolname = usename
                WHERE usename = 'player'
            """
            rows = connection.execute(query).fetchall()
        assert {(ssl, scram) for ssl, _, scram in rows} == {(True, True)}
        assert all(version >= "TLSv1.2" for _, version, _ in rows)
        with registry._database.connection() as connection:
            assert connection.pgconn.used_password
            assert connection.pgconn.ssl_in_use


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"password": "wrong-" + PASSWORD}, "password authentication failed"),
        ({"sslmode": "disable", "channel_binding": "disable"}, "no encryption"),
        ({"host": "another.name"}, "does not match host name"),
        ({"sslrootcert": "stranger"}, "certificate verify failed"),
    ],
    ids=["wrong password", "no TLS", "wrong name", "wrong authority"],
)
def test_what_is_not_right_is_refused_without_a_word_of_the_password(
    server: Encrypted, change: dict[str, str], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = {k: server.stranger if v == "stranger" else v for k, v in change.items()}
    wrong = make_conninfo(server.conninfo, **given)
    with pytest.raises(RegistryUnavailable) as connecting:
        GameSessionRegistry.connect(wrong, config=BRIEF)
    with pytest.raises(RegistryUnavailable, match=why) as migrating:
        migrate(wrong)
    for caught in (connecting, migrating):
        shown = "".join(traceback.format_exception(caught.value))
        assert PASSWORD not in shown
    assert PASSWORD not in caplog.text
