"""Local settings: what may differ from node to node, where each value came from, and the home.

Knows one table of settings; each is a key of `config.toml`, an environment variable and a flag.
Refuses to know what a setting does, and refuses each key that it does not list.
Follows: TOML 1.0 (tomllib); precedence is flag, then environment, then file, then default.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegis_edge.net.tor.endpoint import Endpoint, EndpointError
from aegis_edge.peers import address

#: The longest path that the address of a Unix socket can hold, in bytes, less the ".new" under
#: which it is made ready.
SOCKET_PATH_BYTES_MAX = 103
#: As in `wire.messages`, which a command that only reads its settings need not import.
NAME_BYTES_MAX = 32
ADDRESSES_MAX = 8
ADDRESS_BYTES_MAX = 128
LOG_LEVELS = ("debug", "info", "warning", "error")
TRANSPORTS = ("direct", "tor")
TORS = ("own", "system")
SECURITY_LEVELS = ("STANDARD", "HIGH", "PARANOID")

FILE_NAME = "config.toml"
HOME_VARIABLE = "AEGIS_EDGE_HOME"
#: The home and the API of the node that runs as the board's service, where one is installed; others
#: who may use it cannot look into its home, but into that folder of /run.
SERVICE_HOME = Path("/var/lib/aegis-edge")
SERVICE_API_SOCKET = Path("/run/aegis-edge/api.sock")
PREFIX = "AEGIS_EDGE_"

#: Settings that only mean something where links go through Tor.  Whoever sets one and has direct
#: links counts on something that does not happen.
_OF_TOR = ("security_level", "tor", "tor_control_port", "tor_socks_port", "onion_socket")
#: Those that only mean something where the tor is the system's.  In the environment they may be
#: meant for other programs.
_OF_SYSTEM_TOR = ("tor_control_port", "tor_socks_port")


class ConfigError(ValueError):
    """A setting that cannot be used; the message names its source and says what to do.

    `exit_code`, after sysexits(3): what a program ends with when it ends of this.
    """

    code = "config"
    exit_code = os.EX_CONFIG


class FlagError(ConfigError):
    """A flag that cannot be used: the command line is wrong, as in any other command."""

    code = "usage"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table.  `parse` takes a TOML value or a text, and raises `ValueError`."""

    key: str
    variable: str
    flag: str
    help: str
    parse: Callable[[Any], Any]
    default: Callable[[Path], Any]


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it came from: a flag, a variable, a file's path, or ``default``."""

    value: Any
    source: str


_UNSET = Value(None, "default")
#: What the members agreed on: a name, a value in the units of the settings, and since which
#: configuration.
Agreed = tuple[str, float, int]


# --- one parser per kind of value -----------------------------------------------------------


def _whole(lowest: int, highest: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        wanted = f"must be a whole number, {lowest} to {highest}"
        if isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                raise ValueError(wanted) from None
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError(wanted)
        return int(value)

    return parse


def _number(lowest: float, highest: float, unit: str) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        wanted = f"must be a number{unit}, {lowest:g} to {highest:g}"
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise ValueError(wanted) from None
        if type(value) not in (int, float) or not lowest <= value <= highest:
            raise ValueError(wanted)
        return float(value)

    return parse


def _one_of(choices: Sequence[str]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return str(value)

    return parse


def _switch(value: Any) -> bool:
    if value in ("true", "false"):
        return bool(value == "true")
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("must be a printable name")
    if len(value.encode()) > NAME_BYTES_MAX:
        raise ValueError(f"must be a name of at most {NAME_BYTES_MAX} bytes")
    return value


def _ip_address(value: Any) -> str:
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            pass
    raise ValueError(
        "must be an IP address of this host, such as 127.0.0.1, 192.168.1.20 or 0.0.0.0"
    )


def _addresses(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)) or len(value) > ADDRESSES_MAX:
        raise ValueError(f"must be a list of at most {ADDRESSES_MAX} addresses")
    wanted = "must hold addresses that look like tcp:192.168.1.20:8080 or tcp:[2001:db8::1]:8080"
    if not all(isinstance(text, str) and len(text.encode()) <= ADDRESS_BYTES_MAX for text in value):
        raise ValueError(wanted)
    try:
        address.parse_all(value)
    except address.AddressError as error:
        raise ValueError(f"{wanted}: {error}") from None
    return tuple(value)


def _absolute_path(value: Any) -> Path:
    if not isinstance(value, (str, Path)) or not os.path.isabs(value):
        raise ValueError("must be an absolute path")
    return Path(value)


def _socket_path(value: Any) -> Path:
    path = _absolute_path(value)
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise ValueError(
            f"must be a path of at most {SOCKET_PATH_BYTES_MAX} bytes; set a shorter one"
        )
    return path


def _endpoint(value: Any) -> str:
    """A port or a path as text."""
    if type(value) is int:
        value = str(value)
    if isinstance(value, str) and value.isprintable():
        try:
            Endpoint.parse(value)
            return value
        except EndpointError:
            pass
    raise ValueError("must be a port of this host, or unix:/path of a socket")


def _default_api_socket(home: Path) -> Path:
    return SERVICE_API_SOCKET if home == SERVICE_HOME else home / "api.sock"


def _host_name(_home: Path) -> str:
    name = socket.gethostname().partition(".")[0] or "node"
    return name.encode()[:NAME_BYTES_MAX].decode(errors="ignore")


#: The one table of settings.
SETTINGS: tuple[Setting, ...] = (
    Setting("name", "AEGIS_EDGE_NAME", "--name", "what people call this node", _name, _host_name),
    Setting(
        "listen",
        "AEGIS_EDGE_LISTEN",
        "--listen",
        "the address on which other nodes reach this one; 127.0.0.1 keeps everybody else out",
        _ip_address,
        lambda _home: "127.0.0.1",
    ),
    Setting(
        "p2p_port",
        "P2P_PORT",
        "--p2p-port",
        "the TCP port on which other nodes reach this one",
        _whole(1, 65535),
        lambda _home: 8080,
    ),
    Setting(
        "advertise",
        "AEGIS_EDGE_ADVERTISE",
        "--advertise",
        "the addresses that this node's record gives to others; from listen and p2p_port if empty",
        _addresses,
        lambda _home: (),
    ),
    Setting(
        "lan_discovery",
        "AEGIS_EDGE_LAN_DISCOVERY",
        "--lan-discovery",
        "whether members on one network tell each other, by beacons to all in it, where they are"
        " now: true or false; only with direct links",
        _switch,
        lambda _home: False,
    ),
    Setting(
        "transport",
        "AEGIS_EDGE_TRANSPORT",
        "--transport",
        "how links travel: direct (TCP) hides what is said, tor also who talks to whom, and where",
        _one_of(TRANSPORTS),
        lambda _home: "direct",
    ),
    Setting(
        "security_level",
        "SECURITY_LEVEL",
        "--security-level",
        "through Tor: STANDARD hides where boards are, HIGH also whether they have anything to say,"
        " PARANOID also that it is Tor, and needs bridges",
        _one_of(SECURITY_LEVELS),
        lambda _home: "HIGH",
    ),
    Setting(
        "tor",
        "AEGIS_EDGE_TOR",
        "--tor",
        "which tor: own, which the node starts for itself, or system, which runs already",
        _one_of(TORS),
        lambda _home: "own",
    ),
    Setting(
        "tor_control_port",
        "TOR_CONTROL_PORT",
        "--tor-control-port",
        "the system tor's ControlPort: a port of this host, or unix:/path of its ControlSocket",
        _endpoint,
        lambda _home: "9051",
    ),
    Setting(
        "tor_socks_port",
        "TOR_SOCKS_PORT",
        "--tor-socks-port",
        "the system tor's SocksPort: a port of this host, or unix:/path",
        _endpoint,
        lambda _home: "9050",
    ),
    Setting(
        "onion_socket",
        "AEGIS_EDGE_ONION_SOCKET",
        "--onion-socket",
        "the Unix socket to which tor brings callers; a tor of another user must reach its folder",
        _absolute_path,  # how long it may be depends on tor, and only where there is one
        lambda home: home / "tor" / "onion.sock",
    ),
    Setting(
        "api_socket",
        "AEGIS_EDGE_API_SOCKET",
        "--api-socket",
        "the Unix socket of the local HTTP API",
        _socket_path,
        _default_api_socket,
    ),
    Setting(
        "pbft_timeout",
        "PBFT_TIMEOUT",
        "--pbft-timeout",
        "seconds that a pending operation may wait before the primary is replaced",
        _number(0.1, 3600, " of seconds"),
        lambda _home: 30.0,
    ),
    Setting(
        "byzantine_threshold_ratio",
        "BYZANTINE_THRESHOLD_RATIO",
        "--byzantine-threshold-ratio",
        "the share of members that may be faulty; fixed in the genesis when a cluster is made",
        _number(0, 0.33, ""),
        lambda _home: 0.33,
    ),
    Setting(
        "log_level",
        "AEGIS_EDGE_LOG_LEVEL",
        "--log-level",
        "how much is logged: debug, info, warning or error",
        _one_of(LOG_LEVELS),
        lambda _home: "info",
    ),
)

_BY_KEY = {setting.key: setting for setting in SETTINGS}


@dataclass(frozen=True)
class Config:
    """The settings of one node, each with its source, and the places in its home directory."""

    home: Value
    values: Mapping[str, Value]

    def __getitem__(self, key: str) -> Any:
        return self.values[key].value

    @property
    def directory(self) -> Path:
        """The home directory."""
        return Path(self.home.value)

    @property
    def file(self) -> Path:
        """The settings file; it need not exist."""
        return self.directory / FILE_NAME

    @property
    def key_file(self) -> Path:
        """The private keys of this node."""
        return self.directory / "identity.key"

    @property
    def record_file(self) -> Path:
        """This node's public, signed record: what its owner hands to the others."""
        return self.directory / "node.record"

    @property
    def genesis_file(self) -> Path:
        """The genesis of the cluster, equal on all members."""
        return self.directory / "genesis"

    @property
    def database_file(self) -> Path:
        """The database."""
        return self.directory / "aegis-edge.db"

    @property
    def invitations_file(self) -> Path:
        """The invitations that this node gave out; it need not exist."""
        return self.directory / "invitations"

    @property
    def bans_file(self) -> Path:
        """Whom this node's owner keeps out; it need not exist."""
        return self.directory / "bans"

    @property
    def host_file(self) -> Path:
        """The member that invited this node, if it is none itself; it need not exist."""
        return self.directory / "host"

    @property
    def waypoint_file(self) -> Path:
        """Where the cluster was when this node last knew; it need not exist."""
        return self.directory / "waypoint"

    @property
    def name(self) -> str:
        """What people call this node."""
        return str(self["name"])

    @property
    def listen(self) -> str:
        """The IP address to listen on."""
        return str(self["listen"])

    @property
    def lan_discovery(self) -> bool:
        """Whether beacons say on this network where this node is."""
        return bool(self["lan_discovery"])

    @property
    def p2p_port(self) -> int:
        """The TCP port to listen on."""
        return int(self["p2p_port"])

    @property
    def advertise(self) -> tuple[str, ...]:
        """The addresses that this node's record shall give, such as ``tcp:host:port``."""
        if self["advertise"]:
            return tuple(self["advertise"])
        return (self.listen_address,)

    @property
    def is_through_tor(self) -> bool:
        """Whether links go through Tor, and nothing goes elsewhere."""
        return bool(self["transport"] == "tor")

    @property
    def tor_directory(self) -> Path:
        """The folder of the node's own tor, and of what is kept for any."""
        return self.directory / "tor"

    @property
    def tor_extra_file(self) -> Path:
        """More lines for the torrc of the node's own tor, such as bridges; it need not exist."""
        return self.directory / "torrc.extra"

    @property
    def onion_socket(self) -> Path:
        """The path of the Unix socket to which tor brings callers."""
        return Path(self["onion_socket"])

    @property
    def listen_address(self) -> str:
        """`listen` and `p2p_port` as one address."""
        return str(address.Address(address.TCP, self.listen, self.p2p_port))

    @property
    def api_socket(self) -> Path:
        """The path of the local API's Unix socket."""
        return Path(self["api_socket"])

    @property
    def pbft_timeout_ticks(self) -> int:
        """`pbft_timeout` in milliseconds, the ticks of the agreement core."""
        return int(self["pbft_timeout"] * 1000)

    @property
    def byzantine_ratio_percent(self) -> int:
        """`byzantine_threshold_ratio` in whole percent, as the genesis holds it."""
        return int(self["byzantine_threshold_ratio"] * 100 + 1e-9)

    @property
    def log_level(self) -> str:
        """One of `LOG_LEVELS`."""
        return str(self["log_level"])

    def unsaved(self) -> dict[str, Value]:
        """The settings that flags or the environment gave, and the file alone would not.

        Whoever runs the node without them has another one.  Raises `ConfigError`, as that does.
        """
        kept = load({"home": self.directory}, {}).values
        return {
            key: held
            for key, held in self.values.items()
            if held.source not in ("default", str(self.file))
            and (kept[key].source == "default" or kept[key].value != held.value)
        }

    def rows(self, agreed: Sequence[Agreed] = ()) -> list[tuple[str, Any, str]]:
        """(key, value, source) of the home and of each setting, for `config show`.

        What the members `agreed` on counts before anything that the owner of this node says.
        """
        shared = {
            name: (name, value, f"agreed since configuration {since}")
            for name, value, since in agreed
        }
        rows: list[tuple[str, Any, str]] = [("home", str(self.home.value), self.home.source)]
        for key, held in self.values.items():
            value = str(held.value) if isinstance(held.value, Path) else held.value
            own = (key, list(value) if isinstance(value, tuple) else value, held.source)
            rows.append(shared.pop(key, own))
        return [*rows, *shared.values()]

    def overruled(self, agreed: Sequence[Agreed]) -> list[str]:
        """What the owner of this node says otherwise than the members agreed, in words."""
        found = []
        for name, value, since in agreed:
            held = self.values.get(name, _UNSET)
            if held.source != "default" and held.value != value:
                found.append(
                    f"{held.source}: {name} is {held.value:g}, which does not count: the members"
                    f" agreed on {value:g}, since configuration {since}; remove it, or have them"
                    f" agree with `aegis-edge propose {name} {held.value:g}`"
                )
        return found


def load(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """The settings in force.  Raises `ConfigError`.

    `flags`: what the command line gave, by key (``home`` and the keys of `SETTINGS`); None and
    empty tuples mean "not given".  `environment`: `os.environ` unless given.
    """
    flags = {k: v for k, v in (flags or {}).items() if v is not None and v != ()}
    environment = os.environ if environment is None else environment
    assert flags.keys() <= {"home", *_BY_KEY}
    home = _home(flags.get("home"), environment)
    path = Path(home.value) / FILE_NAME
    table = _read(path)
    _refuse_unknown(table, path)
    _refuse_unknown_variables(environment)
    values: dict[str, Value] = {}
    for setting in SETTINGS:
        if setting.key in flags:
            given, source = flags[setting.key], f"flag {setting.flag}"
        elif setting.variable in environment and not _is_for_others(setting, values):
            given, source = environment[setting.variable], f"environment {setting.variable}"
        elif setting.key in table:
            given, source = table[setting.key], str(path)
        else:
            given, source = setting.default(Path(home.value)), "default"
        values[setting.key] = Value(_parsed(setting, given, source), source)
    _refuse_leaving_tor(values, table, path)
    _refuse_half_tor(values)
    _refuse_beacons_beside_tor(values)
    _refuse_idle_ports(values, environment)
    return Config(home, values)


def _parsed(setting: Setting, given: Any, source: str) -> Any:
    try:
        return setting.parse(given)
    except ValueError as error:
        shown = str(given) if isinstance(given, Path) else repr(given)
        raise _error(source, f"{setting.key} is {shown}; it {error}") from None


def _error(source: str, words: str) -> ConfigError:
    kind = FlagError if source.startswith("flag ") else ConfigError
    return kind(f"{source}: {words}")


def _home(flag: Any, environment: Mapping[str, str]) -> Value:
    if flag is not None:
        found = Value(Path(flag), "flag --home")
    elif environment.get(HOME_VARIABLE):
        found = Value(Path(environment[HOME_VARIABLE]), f"environment {HOME_VARIABLE}")
    elif environment.get("STATE_DIRECTORY"):
        first = environment["STATE_DIRECTORY"].partition(":")[0]
        found = Value(Path(first), "environment STATE_DIRECTORY")
    else:
        data = environment.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
        own = Path(data) / "aegis-edge"
        # The board's own node, unless this user has another.
        is_service = SERVICE_HOME.is_dir() and not os.path.isdir(own)
        found = Value(SERVICE_HOME if is_service else own, "default")
    return Value(Path(os.path.abspath(found.value)), found.source)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        advice = "check its owner and its permissions"
        if path.parent == SERVICE_HOME and isinstance(error, PermissionError):
            advice = (
                "it is of the board's service: use sudo, or have an owner of the board type `sudo"
                " adduser YOU aegis-edge` and log in anew; or name a home of your own with --home"
            )
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}; correct that line") from None
    except RecursionError:
        raise ConfigError(
            f"{path}: nested too deeply; the settings are lines of the form key = value"
        ) from None


def _refuse_unknown(table: Mapping[str, Any], path: Path) -> None:
    for key in table:
        if key in _BY_KEY:
            continue
        raise ConfigError(f"{path}: unknown key {key}; {_nearest(key, list(_BY_KEY))}")


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = [HOME_VARIABLE, *(setting.variable for setting in SETTINGS)]
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in known:
            near = _nearest(variable, known)
            raise ConfigError(f"environment {variable}: there is no such setting; {near}")


def _nearest(key: str, known: list[str]) -> str:
    import difflib  # which no node needs whose settings are right

    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"the known ones are {', '.join(known)}"


def _refuse_leaving_tor(values: Mapping[str, Value], table: Mapping[str, Any], path: Path) -> None:
    """A board that was made for Tor shows nobody where it is because of how it was started."""
    transport = values["transport"]
    if transport.value != "tor" and table.get("transport") == "tor":
        raise _error(
            transport.source,
            f"transport is {transport.value}, and {path} says tor: this would tell others where the"
            " board is; start the node without that (as a service: aegis-edge-tor), or change the"
            " file",
        )


def _refuse_half_tor(values: Mapping[str, Value]) -> None:
    """A level without Tor would hide nothing."""
    if values["transport"].value == "tor":
        return
    for key in _OF_TOR:
        source = values[key].source
        if source != "default":
            raise _error(
                source,
                f"{key} asks for links through Tor, and transport is direct, which does not hide"
                " who talks to whom; set transport to tor, or remove it",
            )


def _refuse_beacons_beside_tor(values: Mapping[str, Value]) -> None:
    """A beacon would tell everybody on the network what Tor hides: that here is a board of ours."""
    found = values["lan_discovery"]
    if found.value and values["transport"].value == "tor":
        raise _error(
            found.source,
            "lan_discovery tells everybody on this network that a board is here, and transport is"
            " tor, which hides it; remove it, or set transport to direct",
        )


def _is_for_others(setting: Setting, values: Mapping[str, Value]) -> bool:
    """Whether a variable is left to other programs: this node uses no tor of the system."""
    if setting.key not in _OF_SYSTEM_TOR:
        return False
    return (values["transport"].value, values["tor"].value) != ("tor", "system")


def _refuse_idle_ports(values: Mapping[str, Value], environment: Mapping[str, str]) -> None:
    """Whoever names a tor counts on it, unless another program may, and `tor` says what counts."""
    if values["transport"].value != "tor" or values["tor"].value == "system":
        return
    for key in _OF_SYSTEM_TOR:
        source, variable = values[key].source, _BY_KEY[key].variable
        if source != "default":
            fix = "set tor to system to use that one, or remove it"
        elif variable in environment and values["tor"].source == "default":
            source = f"environment {variable}"
            fix = "set tor (AEGIS_EDGE_TOR) to system to use that one, or to own if not"
        else:
            continue
        raise _error(
            source,
            f"{key} is where a tor listens that runs already, and tor is own, which the node"
            f" starts for itself; {fix}",
        )
