"""What the API says of a board that is well, and of one that is not."""

from __future__ import annotations

from typing import Any


def status(**changed: Any) -> dict[str, Any]:
    return {
        "is_member": True,
        "nodes": 4,
        "quorum": 3,
        "has_quorum": True,
        "reachable": ["barn", "cellar", "dock"],
        "view": 2,
        "primary_name": "barn",
        "view_changing": False,
        "halted": False,
        "transfer": None,
        "alarms": [],
        "tor": None,
    } | changed


def tor(stage: str, words: str = "") -> dict[str, Any]:
    return {"tor": {"stage": stage, "words": words}}
