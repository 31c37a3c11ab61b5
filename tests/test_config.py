"""The local settings: where each value comes from, and what is said about a bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis_edge import config
from aegis_edge.config import SECURITY_LEVELS, SETTINGS, ConfigError, FlagError, load
from aegis_edge.knowledge.agreed import PARAMETERS, TIMEOUT
from aegis_edge.wire import messages

BARE: dict[str, str] = {}


def written(home: Path, text: str) -> dict[str, str]:
    """A home with this settings file, named by the environment."""
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text)
    return {"AEGIS_EDGE_HOME": str(home)}


# --- precedence and sources -----------------------------------------------------------------


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    environment = written(tmp_path, "p2p_port = 1003\npbft_timeout = 3\nname = 'c'\n")
    environment |= {"P2P_PORT": "1002", "PBFT_TIMEOUT": "2"}
    found = load({"p2p_port": 1001}, environment)
    assert [found[k] for k in ("p2p_port", "pbft_timeout", "name", "log_level")] == [
        1001,
        2.0,
        "c",
        "info",
    ]
    assert [found.values[k].source for k in ("p2p_port", "pbft_timeout", "name", "log_level")] == [
        "flag --p2p-port",
        "environment PBFT_TIMEOUT",
        str(tmp_path / "config.toml"),
        "default",
    ]


def test_flags_that_were_not_given_count_nothing(tmp_path: Path) -> None:
    found = load({"name": None, "advertise": ()}, written(tmp_path, "name = 'attic'"))
    assert found.name == "attic"


def test_rows_show_every_setting_once_and_the_home_first(tmp_path: Path) -> None:
    rows = load({"home": tmp_path}, BARE).rows()
    assert [row[0] for row in rows] == ["home", *(s.key for s in SETTINGS)]
    assert rows[0] == ("home", str(tmp_path), "flag --home")
    by_key = {key: value for key, value, _ in rows}
    assert by_key["api_socket"] == str(tmp_path / "api.sock")
    assert by_key["advertise"] == []


def test_the_names_that_users_know_are_kept_with_their_defaults() -> None:
    by_variable = {s.variable: s for s in SETTINGS}
    home = Path("/nowhere")
    assert by_variable["P2P_PORT"].default(home) == 8080
    assert by_variable["PBFT_TIMEOUT"].default(home) == 30
    assert by_variable["BYZANTINE_THRESHOLD_RATIO"].default(home) == 0.33


def test_defaults_pass_their_own_checks() -> None:
    found = load({"home": "/nowhere"}, BARE)
    assert found.listen == "127.0.0.1"
    assert found.pbft_timeout_ticks == 30_000
    assert found.byzantine_ratio_percent == 33
    assert 1 <= len(found.name.encode()) <= 32


# --- the home -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "environment", "home", "source"),
    [
        ("/f", {"AEGIS_EDGE_HOME": "/e"}, "/f", "flag --home"),
        (None, {"AEGIS_EDGE_HOME": "/e", "STATE_DIRECTORY": "/s"}, "/e", "AEGIS_EDGE_HOME"),
        (None, {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a", "STATE_DIRECTORY"),
        (None, {"XDG_DATA_HOME": "/x"}, "/x/aegis-edge", "default"),
        ("/a/../b", {}, "/b", "flag --home"),
    ],
)
def test_where_the_home_is(
    flag: str | None, environment: dict[str, str], home: str, source: str
) -> None:
    found = load({"home": flag}, environment)
    assert found.directory == Path(home)
    assert found.home.source.endswith(source)
    assert found.database_file.parent == found.key_file.parent == Path(home)


def test_without_a_hint_the_home_is_below_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load({}, BARE).directory == Path("/home/somebody/.local/share/aegis-edge")


def test_where_the_package_is_installed_the_home_is_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "SERVICE_HOME", tmp_path / "service")
    there = {"XDG_DATA_HOME": str(tmp_path)}
    assert load({}, there).directory == tmp_path / "aegis-edge"
    (tmp_path / "service").mkdir()
    found = load({}, there)
    assert found.directory == tmp_path / "service"
    assert found.api_socket == config.SERVICE_API_SOCKET
    assert load({"api_socket": "/a"}, there).api_socket == Path("/a")
    (tmp_path / "aegis-edge").mkdir()
    own = load({}, there)
    assert own.directory == tmp_path / "aegis-edge"
    assert own.api_socket == own.directory / "api.sock"


def test_who_may_not_look_into_the_services_home_hears_who_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(ConfigError, match=r"\(Permission denied\); check its owner"):
        load({"home": tmp_path}, BARE)
    monkeypatch.setattr(config, "SERVICE_HOME", tmp_path)
    with pytest.raises(
        ConfigError, match=r"\(Permission denied\); .* `sudo adduser YOU aegis-edge`"
    ):
        load({"home": tmp_path}, BARE)


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p2p_prot = 1\n", "unknown key p2p_prot; did you mean p2p_port?"),
        ("zzz = 1\n", "unknown key zzz; the known ones are name, listen"),
        ("[network]\nport = 1\n", "unknown key network"),
        ("p2p_port = \n", "not TOML"),
        ("p2p_port = true\n", "p2p_port is True; it must be a whole number, 1 to 65535"),
        ("p2p_port = 65536\n", "p2p_port is 65536"),
        ("p2p_port = 'many'\n", "p2p_port is 'many'"),
        ("pbft_timeout = 0\n", "must be a number of seconds, 0.1 to 3600"),
        ("pbft_timeout = nan\n", "must be a number of seconds"),
        ("pbft_timeout = 'soon'\n", "must be a number of seconds"),
        ("byzantine_threshold_ratio = 0.5\n", "must be a number, 0 to 0.33"),
        ("log_level = 'loud'\n", "must be debug or info or warning or error"),
        ("log_level = []\n", "must be debug or info"),
        ("listen = 'myhost'\n", "must be an IP address of this host"),
        ("listen = 1\n", "must be an IP address of this host"),
        ("name = ''\n", "must be a printable name"),
        ("name = 3\n", "must be a printable name"),
        ('name = "a\\u0007"\n', "must be a printable name"),
        ("name = '" + "ä" * 17 + "'\n", "at most 32 bytes"),
        ("advertise = 5\n", "list of at most 8 addresses"),
        ("advertise = [5]\n", "addresses that look like tcp:"),
        ("advertise = ['http://x']\n", "addresses that look like tcp:"),
        ("advertise = ['tcp:host:0']\n", "addresses that look like tcp:"),
        ("advertise = ['tcp:2001:db8::1:80']\n", "addresses that look like tcp:"),
        ("advertise = ['tcp::80']\n", "addresses that look like tcp:"),
        ("advertise = ['tcp:127.1:80']\n", "neither a name nor an IP address"),
        ("advertise = ['tcp:a:1', 'tcp:A:1']\n", "is there twice"),
        ("api_socket = 'relative'\n", "must be an absolute path"),
        ("api_socket = '/" + "x" * 103 + "'\n", "at most 103 bytes"),
        ("transport = 'pigeon'\n", "transport is 'pigeon'; it must be direct or tor"),
        ("transport = 'tor'\nsecurity_level = 'LOW'\n", "must be STANDARD or HIGH or PARANOID"),
        ("transport = 'tor'\ntor_socks_port = ''\n", "port of this host, or unix:/path"),
        ("transport = 'tor'\ntor_control_port = 1.5\n", "port of this host, or unix:/path"),
        ("security_level = 'HIGH'\n", "security_level asks for links through Tor"),
        ("tor_socks_port = 9050\n", "tor_socks_port asks for links through Tor"),
        ("lan_discovery = 'maybe'\n", "lan_discovery is 'maybe'; it must be true or false"),
        ("lan_discovery = 1\n", "lan_discovery is 1; it must be true or false"),
        ("transport = 'tor'\nlan_discovery = true\n", "lan_discovery tells everybody on this net"),
    ],
)
def test_a_bad_file_is_named_with_its_key_and_what_to_do(
    tmp_path: Path, text: str, said: str
) -> None:
    environment = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load({}, environment)
    assert str(caught.value).startswith(str(tmp_path / "config.toml"))
    assert said in str(caught.value)


def test_beacons_are_sent_only_where_they_are_wanted_and_never_beside_tor(tmp_path: Path) -> None:
    assert not load({"home": tmp_path}, {}).lan_discovery
    assert load({"home": tmp_path}, {"AEGIS_EDGE_LAN_DISCOVERY": "true"}).lan_discovery
    assert load({}, written(tmp_path, "lan_discovery = true\n")).lan_discovery
    quiet = load({"home": tmp_path, "transport": "tor", "lan_discovery": "false"}, {})
    assert not quiet.lan_discovery
    (tmp_path / "config.toml").unlink()
    for level in SECURITY_LEVELS:
        with pytest.raises(FlagError, match="set transport to direct"):
            load(
                {"home": tmp_path, "transport": "tor", "lan_discovery": "true"},
                {"SECURITY_LEVEL": level},
            )


def test_a_level_is_believed_only_where_links_go_through_tor(tmp_path: Path) -> None:
    through = load({"home": tmp_path, "transport": "tor"}, {"SECURITY_LEVEL": "STANDARD"})
    assert (through.is_through_tor, through["security_level"]) == (True, "STANDARD")
    assert load({"home": tmp_path, "transport": "tor"}, {})["security_level"] == "HIGH"
    with pytest.raises(ConfigError, match="set transport to tor, or remove it"):
        load({"home": tmp_path, "tor": "system"}, {})


def test_ports_of_tor_in_the_environment_may_be_for_other_programs(tmp_path: Path) -> None:
    ports = {"TOR_CONTROL_PORT": "unix:/run/tor/control", "TOR_SOCKS_PORT": "9150"}
    system = {"home": tmp_path, "transport": "tor", "tor": "system"}
    through = load(system, ports)
    assert through["tor_control_port"] == "unix:/run/tor/control"
    assert through["tor_socks_port"] == "9150"
    for others in ({"home": tmp_path}, system | {"tor": "own"}):
        found = load(others, {"TOR_CONTROL_PORT": "of somebody's", "TOR_SOCKS_PORT": "9150"})
        assert found.values["tor_control_port"] == config.Value("9051", "default")
        assert found.values["tor_socks_port"] == config.Value("9050", "default")
    (tmp_path / "config.toml").write_text(
        "transport = 'tor'\ntor = 'system'\ntor_socks_port = 9060\n"
    )
    assert load({"home": tmp_path}, {})["tor_socks_port"] == "9060"


@pytest.mark.parametrize("setting", ["tor_control_port", "tor_socks_port"])
def test_whoever_names_a_tor_is_told_that_the_node_would_start_its_own(
    tmp_path: Path, setting: str
) -> None:
    variable = setting.upper()
    through = {"home": tmp_path, "transport": "tor"}
    with pytest.raises(ConfigError, match=r"set tor .* to system to use that one") as caught:
        load(through, {variable: "9051"})
    assert str(caught.value).startswith(f"environment {variable}: {setting} is where a tor listens")
    assert caught.value.exit_code == 78
    with pytest.raises(ConfigError, match="set tor to system to use that one, or remove") as caught:
        load({**through, "tor": "own", setting: "9051"}, {})
    assert str(caught.value).startswith("flag --tor-")
    assert caught.value.exit_code == 2
    environment = written(tmp_path, f"transport = 'tor'\ntor = 'own'\n{setting} = 9051\n")
    with pytest.raises(ConfigError, match="and tor is own") as caught:
        load({}, environment)
    assert str(caught.value).startswith(str(tmp_path / "config.toml"))


@pytest.mark.parametrize("value", ["abc", "192.0.2.1:9", "", "0", "unix:here", "90\n51"])
@pytest.mark.parametrize("setting", ["tor_control_port", "tor_socks_port"])
def test_a_place_where_no_tor_can_be_is_named_with_its_source(
    tmp_path: Path, setting: str, value: str
) -> None:
    said = f"{setting} is {value!r}; it must be a port of this host, or unix:/path of a socket"
    system = {"home": tmp_path, "transport": "tor", "tor": "system"}
    with pytest.raises(ConfigError) as caught:
        load(system, {setting.upper(): value})
    assert str(caught.value) == f"environment {setting.upper()}: {said}"


def test_what_the_file_alone_would_not_say_is_unsaved(tmp_path: Path) -> None:
    environment = written(tmp_path, "transport = 'tor'\nname = 'attic'\np2p_port = 1\n")
    environment |= {"SECURITY_LEVEL": "PARANOID", "AEGIS_EDGE_NAME": "attic", "P2P_PORT": "2"}
    assert load({"log_level": "debug"}, environment).unsaved() == {
        "p2p_port": config.Value(2, "environment P2P_PORT"),
        "security_level": config.Value("PARANOID", "environment SECURITY_LEVEL"),
        "log_level": config.Value("debug", "flag --log-level"),
    }
    assert load({}, {"AEGIS_EDGE_HOME": str(tmp_path)}).unsaved() == {}


def test_a_level_by_a_flag_without_tor_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^flag --security-level: .* through Tor") as caught:
        load({"home": tmp_path, "security_level": "HIGH"}, {})
    assert caught.value.exit_code == 2


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not TOML"):
        load({"home": tmp_path}, BARE)


def test_a_depth_that_no_settings_have_is_refused(tmp_path: Path) -> None:
    for text in ("a = " + "[" * 100_000, "a = " + "{a = " * 100_000):
        (tmp_path / "config.toml").write_text(text)
        with pytest.raises(ConfigError, match=r"config\.toml: n"):
            load({"home": tmp_path}, BARE)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be read .*; check its owner"):
        load({"home": tmp_path}, BARE)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"P2P_PORT": "x"}, "environment P2P_PORT: p2p_port is 'x'"),
        ({"AEGIS_EDGE_NMAE": "a"}, "did you mean AEGIS_EDGE_NAME?"),
        ({"AEGIS_EDGE_TRANSPORT": "pigeon"}, "it must be direct or tor"),
        (
            {"SECURITY_LEVEL": "HIGH"},
            "environment SECURITY_LEVEL: security_level asks for links through Tor",
        ),
    ],
)
def test_a_bad_environment_is_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"home": "/nowhere"}, environment)
    assert said in str(caught.value)


def test_a_bad_flag_is_wrong_usage_and_anything_else_a_wrong_setting() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"home": "/nowhere", "p2p_port": 70_000}, BARE)
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigError) as caught:
        load({"home": "/nowhere"}, {"P2P_PORT": "70000"})
    assert caught.value.exit_code == 78


def test_a_bad_flag_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^flag --api-socket: api_socket is here; it must be an"):
        load({"home": "/nowhere", "api_socket": Path("here")}, BARE)


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, ("tcp:127.0.0.1:8080",)),
        ({"listen": "::1", "p2p_port": "81"}, ("tcp:[::1]:81",)),
        ({"advertise": ("tcp:a.example:1",)}, ("tcp:a.example:1",)),
        ({"advertise": "tcp:a:1, tcp:[::1]:2,"}, ("tcp:a:1", "tcp:[::1]:2")),
    ],
)
def test_advertised_addresses(given: dict[str, Any], shown: tuple[str, ...]) -> None:
    assert load({"home": "/nowhere", **given}, BARE).advertise == shown


def test_a_long_host_name_is_cut_to_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.socket, "gethostname", lambda: "ä" * 40 + ".example")
    assert load({"home": "/nowhere"}, BARE).name == "ä" * 16
    monkeypatch.setattr(config.socket, "gethostname", lambda: "")
    assert load({"home": "/nowhere"}, BARE).name == "node"


def test_ratio_percent_rounds_down_without_losing_a_whole_one() -> None:
    for text, percent in (("0.29", 29), ("0.33", 33), ("0.255", 25), ("0", 0)):
        found = load({"home": "/nowhere", "byzantine_threshold_ratio": text}, BARE)
        assert found.byzantine_ratio_percent == percent


def test_whatever_the_settings_allow_fits_a_node_record() -> None:
    for bound in ("NAME_BYTES_MAX", "ADDRESSES_MAX", "ADDRESS_BYTES_MAX"):
        assert getattr(config, bound) == getattr(messages, bound)


# --- what the members agreed on ---------------------------------------------------------------


def test_what_was_agreed_on_counts_before_whatever_the_owner_says(tmp_path: Path) -> None:
    environment = written(tmp_path, "pbft_timeout = 3\n") | {"P2P_PORT": "1002"}
    agreed = [("checkpoint_interval", 16, 1), ("pbft_timeout", 10.0, 4)]
    rows = {key: (value, source) for key, value, source in load({}, environment).rows(agreed)}
    assert rows["pbft_timeout"] == (10.0, "agreed since configuration 4")
    assert rows["checkpoint_interval"] == (16, "agreed since configuration 1")
    assert rows["p2p_port"] == (1002, "environment P2P_PORT")
    plain = {key: (value, source) for key, value, source in load({}, environment).rows()}
    assert plain["pbft_timeout"] == (3.0, str(tmp_path / "config.toml"))
    assert "checkpoint_interval" not in plain


@pytest.mark.parametrize(
    ("flags", "more", "source"),
    [
        ({}, {}, "config.toml"),
        ({}, {"PBFT_TIMEOUT": "3"}, "environment PBFT_TIMEOUT"),
        ({"pbft_timeout": 3}, {}, "flag --pbft-timeout"),
    ],
)
def test_a_setting_that_does_not_count_is_told_of_with_its_source(
    tmp_path: Path, flags: dict[str, Any], more: dict[str, str], source: str
) -> None:
    environment = written(tmp_path, "pbft_timeout = 3\n") | more
    found = load(flags, environment)
    (said,) = found.overruled([("checkpoint_interval", 16, 1), ("pbft_timeout", 10.0, 4)])
    for words in (source, "does not count", "10, since configuration 4", "propose pbft_timeout 3"):
        assert words in said
    assert found.overruled([("pbft_timeout", 3.0, 4)]) == [], "it says the same"
    assert load({}, {"AEGIS_EDGE_HOME": "/nowhere"}).overruled([("pbft_timeout", 10.0, 4)]) == []


def test_what_may_be_set_here_may_be_agreed_on() -> None:
    (setting,) = [each for each in SETTINGS if each.key == TIMEOUT]
    parameter = PARAMETERS[TIMEOUT]
    for value in (parameter.lowest, parameter.highest):
        assert setting.parse(parameter.said(value)) == parameter.said(value)
    for value in (parameter.lowest - 1, parameter.highest + 1):
        with pytest.raises(ValueError):
            setting.parse(parameter.said(value))


@pytest.mark.parametrize(
    ("flags", "environment", "source"),
    [
        ({}, {"AEGIS_EDGE_TRANSPORT": "direct"}, "environment AEGIS_EDGE_TRANSPORT"),
        ({"transport": "direct"}, {}, "flag --transport"),
    ],
)
def test_a_board_that_was_made_for_tor_does_not_leave_it(
    tmp_path: Path, flags: dict[str, str], environment: dict[str, str], source: str
) -> None:
    (tmp_path / "config.toml").write_text("transport = 'tor'\n")
    with pytest.raises(ConfigError, match=rf"{source}: transport is direct, and .* says tor: this"):
        load({"home": tmp_path, **flags}, environment)
    (tmp_path / "config.toml").write_text("transport = 'direct'\n")
    assert not load({"home": tmp_path, **flags}, environment).is_through_tor
