"""Whose a home is: a person's, or the board's service's; and how each has its node run.

Knows accounts, and the names of our units.  Refuses to know what is typed.  What root made in the
service's home the service could not read, so there root acts as the account that it belongs to.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis_edge.config import Config

#: The units of a board whose links are direct, and of one whose links go through Tor.
DIRECT, TOR = "aegis-edge", "aegis-edge-tor"


def to_start(config: Config) -> str:
    """The command that has the node of this home run."""
    from aegis_edge.cli import screen

    if _is_service(config):
        return f"sudo systemctl enable --now {_unit(config)}"
    return screen.typed("run")


def has_key(config: Config) -> bool:
    """Whether this is a node's home; a service may have its key from elsewhere (a credential)."""
    return _is_service(config) or config.key_file.exists()


def to_restart(config: Config) -> str:
    """The command that has it begin anew, if it is a service."""
    if _is_service(config):
        return f"sudo systemctl restart {_unit(config)}"
    return "systemctl --user restart aegis-edge"


def become(config: Config) -> None:
    """Act as the account of the board's service from now on, if root means its home."""
    if os.geteuid() != 0 or not _is_service(config):
        return
    found = config.directory.stat()
    if found.st_uid == 0:
        return
    import pwd  # which nobody else needs

    os.initgroups(pwd.getpwuid(found.st_uid).pw_name, found.st_gid)
    os.setgid(found.st_gid)
    os.setuid(found.st_uid)


def _is_service(config: Config) -> bool:
    from aegis_edge.config import SERVICE_HOME

    return config.directory == SERVICE_HOME and SERVICE_HOME.is_dir()


def _unit(config: Config) -> str:
    return TOR if config.is_through_tor else DIRECT
