from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from aegis_edge import config
from aegis_edge.cli import owner
from tests.cli.conftest import Cli


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """A board on which the package is installed."""
    folder = tmp_path / "service"
    folder.mkdir()
    monkeypatch.setattr(config, "SERVICE_HOME", folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AEGIS_EDGE_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return folder


@pytest.mark.parametrize(
    ("options", "unit"), [(("--single",), "aegis-edge"), (("--tor",), "aegis-edge-tor")]
)
def test_a_board_is_told_how_its_service_begins(
    cli: Cli,
    service: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    unit: str,
) -> None:
    said = cli("init", *options)
    assert (said.code, said.err) == (0, "")
    assert (service / "identity.key").exists()
    assert f"sudo systemctl enable --now {unit}" in [
        line.removeprefix("Next:").partition("#")[0].strip() for line in said.out.splitlines()
    ]
    monkeypatch.setattr(config, "SERVICE_API_SOCKET", service / "api.sock")
    assert f"start it with: sudo systemctl enable --now {unit};" in cli("status").err
    if unit == owner.TOR:
        assert f"  sudo systemctl restart {unit}\n" in cli("onion", "rotate").out


def test_a_person_with_a_node_of_their_own_is_not_told_of_the_service(cli: Cli, home: Path) -> None:
    assert "Next: aegis-edge run\n" in cli("init", "--single").out


def test_root_acts_as_who_the_services_home_belongs_to(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[object, ...]] = []
    for name in ("initgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda *given, name=name: became.append((name, *given)))
    nobody = pwd.getpwnam("nobody")
    belongs_to(service, monkeypatch, nobody.pw_uid)
    for user in (0, 4711):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        owner.become(config.load({}, {"HOME": os.environ["HOME"]}))
    owner.become(config.load({"home": service.parent / "other"}, {}))
    group = service.stat().st_gid
    assert became == [
        ("initgroups", "nobody", group),
        ("setgid", group),
        ("setuid", nobody.pw_uid),
    ]


def belongs_to(folder: Path, monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    """`folder` looks as if it were of `user`: only root can give it away."""
    real = Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        found = real(path, **how)
        if path != folder:
            return found
        fields = list(found)
        fields[4] = user
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", stat)


def test_root_is_root_where_the_home_is_roots(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    belongs_to(service, monkeypatch, 0)
    monkeypatch.setattr(os, "setuid", lambda _: pytest.fail("it is root's own"))
    owner.become(config.load({}, {}))
