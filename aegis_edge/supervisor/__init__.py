"""What the node tells the service manager that runs it: that it serves, how it stands, and lives.

Knows systemd's side of a service.  Refuses to know the node: it is given what to look at.
"""

from aegis_edge.supervisor.journal import Formatter
from aegis_edge.supervisor.manager import is_journal
from aegis_edge.supervisor.service import Service, of

__all__ = ["Formatter", "Service", "is_journal", "of"]
