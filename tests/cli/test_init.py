"""init: what it makes, what it tells, what it refuses."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from aegis_edge import config
from tests.cli.conftest import Cli


def test_a_home_is_made(cli: Cli, home: Path) -> None:
    said = cli("init", "--name", "attic", "--address", "192.168.1.20:9000")
    assert said.code == 0
    assert "tcp:192.168.1.20:9000" in said.out
    assert "aegis-edge record > attic.record " in said.out
    assert "genesis create" in said.out
    assert said.err == ""
    assert stat.S_IMODE((home / "identity.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    found = config.load({"home": home}, {})
    assert (found.name, found.listen, found.p2p_port) == ("attic", "0.0.0.0", 9000)
    assert found.advertise == ("tcp:192.168.1.20:9000",)


def test_an_address_that_no_other_board_reaches_is_named(cli: Cli, tmp_path: Path) -> None:
    assert "Only this machine" in cli("--home", tmp_path / "a", "init").out
    given = cli("--home", tmp_path / "b", "init", "--address", "127.0.0.1:9000")
    assert "Only this machine" not in given.out
    assert "Only this machine" not in cli("--home", tmp_path / "c", "init", "--single").out
    for wrong in ("http://10.0.0.1:80", "10.0.0.1:65536", "10.0.0.1:0"):
        assert cli("--home", tmp_path / "d", "init", "--address", wrong).code == 2


def test_a_single_board_is_a_cluster(cli: Cli, home: Path) -> None:
    said = cli("init", "--single", "--json")
    assert said.json["genesis"] == str(home / "genesis")
    assert said.err == ""
    assert cli("genesis", "show", "--json").json["members"][0]["node_id"] == said.json["node_id"]


def test_nothing_is_overwritten(cli: Cli, home: Path) -> None:
    assert cli("init").code == 0
    before = (home / "identity.key").read_bytes()
    said = cli("init", "--single")
    assert said.code == 1
    assert "is there already" in said.err
    assert "use it as it is" in said.err
    assert (home / "identity.key").read_bytes() == before
    assert not (home / "genesis").exists()


def test_a_home_that_lost_its_key_is_no_place_for_another(cli: Cli, home: Path) -> None:
    assert cli("init", "--single").code == 0
    (home / "identity.key").unlink()
    said = cli("init", "--single")
    assert said.code == 1
    assert "restore identity.key from your backup" in said.err


def test_settings_of_the_owner_are_kept(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "config.toml").write_text('name = "mine"\n')
    said = cli("init", "--name", "other")
    assert said.code == 1
    assert 'is there already, and does not say: name = "other" (flag --name)' in said.err
    monkeypatch.setenv("P2P_PORT", "9001")
    assert "p2p_port = 9001 (environment P2P_PORT)" in cli("init", "--name", "mine").err
    assert not (home / "identity.key").exists()
    monkeypatch.delenv("P2P_PORT")
    assert cli("init", "--name", "mine", "--json").json["name"] == "mine"
    assert (home / "config.toml").read_text() == 'name = "mine"\n'


def test_what_the_environment_says_counts_for_whoever_starts_the_node(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "AEGIS_EDGE_NAME": "\N{HONEYBEE} hive",
        "AEGIS_EDGE_TRANSPORT": "tor",
        "SECURITY_LEVEL": "PARANOID",
        "AEGIS_EDGE_TOR": "system",
        "TOR_CONTROL_PORT": "unix:/run/tor/control",
        "AEGIS_EDGE_API_SOCKET": str(home / "a.sock"),
        "PBFT_TIMEOUT": "12.5",
        "AEGIS_EDGE_ADVERTISE": "tcp:192.0.2.7:1",
        "BYZANTINE_THRESHOLD_RATIO": "0.2",
    }
    for variable, value in said.items():
        monkeypatch.setenv(variable, value)
    shown = cli("init")
    assert shown.code == 0
    from_environment = config.load({"home": home}, said)
    later = config.load({"home": home}, {})
    for setting in config.SETTINGS:
        assert later[setting.key] == from_environment[setting.key]
        assert (later.values[setting.key].source != "default") == (setting.variable in said)
    assert 'saved    security_level = "PARANOID"  environment SECURITY_LEVEL\n' in shown.out
    assert "links    through Tor at PARANOID" in shown.out


def test_the_level_of_the_environment_counts_with_tor_by_a_flag(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURITY_LEVEL", "STANDARD")
    said = cli("init", "--tor", "--json").json
    assert said["saved"] == {"transport": "tor", "security_level": "STANDARD"}
    assert config.load({"home": home}, {})["security_level"] == "STANDARD"


def test_flags_are_saved_and_need_no_more_words(cli: Cli, home: Path) -> None:
    shown = cli("init", "--tor", "--security-level", "STANDARD")
    assert "\nsaved" not in shown.out
    assert "links    through Tor at STANDARD" in shown.out
    assert config.load({"home": home}, {})["security_level"] == "STANDARD"


def test_what_is_fixed_in_the_genesis_is_no_setting_any_more(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYZANTINE_THRESHOLD_RATIO", "0.2")
    assert cli("init", "--single", "--json").json["saved"] == {}
    assert not (home / "config.toml").exists()


def test_through_tor_by_the_environment_is_through_tor(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("init", "--security-level", "HIGH").code == 2
    monkeypatch.setenv("AEGIS_EDGE_TRANSPORT", "tor")
    said = cli("init", "--address", "192.168.1.20:8080")
    assert said.code == 2
    assert "through Tor a node has one address" in said.err
    assert cli("init", "--security-level", "STANDARD").code == 0
    assert config.load({"home": home}, {})["security_level"] == "STANDARD"


def test_a_tor_that_would_not_be_used_is_no_start(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOR_CONTROL_PORT", "9051")
    said = cli("init", "--tor")
    assert said.code == os.EX_CONFIG
    assert "environment TOR_CONTROL_PORT: tor_control_port is where a tor listens" in said.err
    assert not home.exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.168.1.300:8080", "must look like 192.168.1.20:8080"),
        ("192.168.1.20", "must look like 192.168.1.20:8080"),
        (f"{'a.' * 100}lan:8080", "must look like 192.168.1.20:8080"),
        ("0.0.0.0:8080", "nobody reaches one board at 0.0.0.0 (unspecified)"),
        ("[::]:8080", "nobody reaches one board at :: (unspecified)"),
        ("224.0.0.1:8080", "nobody reaches one board at 224.0.0.1 (multicast)"),
    ],
)
def test_an_address_that_leads_nowhere_is_the_fault_of_its_flag(
    address: str, words: str, cli: Cli, home: Path
) -> None:
    said = cli("init", "--address", address)
    assert said.code == 2
    assert "Invalid value for --address: " in said.err
    assert words in said.err
    assert "--advertise" not in said.err
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--address", "nonsense"], 2),
        (["--address", "host:notaport"], 2),
        (["--p2p-port", "70000"], 2),
        (["--listen", "nonsense"], 2),
        (["--name", ""], 2),
    ],
)
def test_bad_settings_leave_nothing_behind(
    words: list[str], code: int, cli: Cli, home: Path
) -> None:
    assert cli("init", *words).code == code
    assert not home.exists()


def test_a_home_that_cannot_be_made_leads_to_another(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = cli("--home", tmp_path / "file" / "home", "init")
    assert said.code == os.EX_CONFIG
    assert f"{tmp_path}/file/home: Not a directory" in said.err
    assert "another place with --home" in said.err


def test_a_file_is_no_home(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = cli("--home", tmp_path / "file", "init")
    assert said.code == os.EX_CONFIG
    assert f"{tmp_path}/file is a file" in said.err
    assert "name another place with --home" in said.err
    assert "card" not in said.err


def test_what_comes_next_is_about_the_same_home(cli: Cli, tmp_path: Path) -> None:
    one, many = tmp_path / "o n e", tmp_path / "many"
    assert cli("--home", one, "init", "--single").out.endswith(
        f"Next: aegis-edge run --home '{one}'\n"
    )
    said = cli("--home", many, "init", "--name", "b").out
    for words in (
        f"aegis-edge record --home {many} > b.record  # on each",
        f"aegis-edge genesis install genesis --home {many}  # on each",
        f"aegis-edge run --home {many} ",
    ):
        assert words in said
    said = cli("--home", many, "genesis", "install", one / "genesis").out
    assert said.endswith(f"Next: aegis-edge run --home {many}\n")
    assert cli("init", "--single").out.endswith("Next: aegis-edge run\n")


@pytest.mark.parametrize("single", [(), ("--single",)])
def test_who_takes_bridges_is_told_where_they_go(
    single: tuple[str, ...], cli: Cli, home: Path
) -> None:
    said = cli("init", "--tor", "--security-level", "PARANOID", *single).out
    assert "PARANOID takes bridges" in said
    assert f"before it, to {home}" in said


def test_a_home_that_is_not_ours_leads_to_its_owner(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    said = cli("init")
    assert said.code == os.EX_CONFIG
    assert f"{home}: Permission denied" in said.err
    assert "run this as the account that the place belongs to" in said.err


@pytest.mark.parametrize(
    ("address", "listen"),
    [
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]:1", "::1"),
        ("[2001:db8::1]:1", "::"),
        ("a.b:1", "0.0.0.0"),
        ("LOCALHOST:1", "127.0.0.1"),
        ("127.0.0.2:1", "127.0.0.2"),
    ],
)
def test_it_listens_where_it_is_reached(address: str, listen: str, cli: Cli, home: Path) -> None:
    assert cli("init", "--address", address).code == 0
    assert config.load({"home": home}, {}).listen == listen
