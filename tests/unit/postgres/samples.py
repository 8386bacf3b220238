"""Answers of pgBackRest 2.45, as it printed them, and things made from them."""

import json
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from aivo_backup.stores.postgres.info import BackupSet, parse_info

FULL: dict[str, Any] = {
    "archive": {"start": "000000010000000000000002", "stop": "000000010000000000000003"},
    "backrest": {"format": 5, "version": "2.45"},
    "database": {"id": 1, "repo-key": 1},
    "error": False,
    "info": {"delta": 22992599, "repository": {"delta": 2840448, "size": 2840448}, "size": 22992599},
    "label": "20261123-044032F",
    "lsn": {"start": "0/2000028", "stop": "0/3000050"},
    "prior": None,
    "reference": None,
    "timestamp": {"start": 1795408832, "stop": 1795408835},
    "type": "full",
}

INCREMENTAL: dict[str, Any] = {
    **FULL,
    "archive": {"start": "000000010000000000000006", "stop": "000000010000000000000006"},
    "info": {"delta": 1417482, "repository": {"delta": 154336, "size": 2841152}, "size": 23000791},
    "label": "20261123-044032F_20261123-044100I",
    "lsn": {"start": "0/6000028", "stop": "0/6000138"},
    "prior": "20261123-044032F",
    "reference": ["20261123-044032F"],
    "timestamp": {"start": 1795408860, "stop": 1795408861},
    "type": "incr",
}

EMPTY: list[dict[str, Any]] = [
    {
        "archive": [],
        "backup": [],
        "cipher": "aes-256-cbc",
        "db": [],
        "name": "nope",
        "repo": [{"cipher": "aes-256-cbc", "key": 1, "status": {"code": 1, "message": "missing stanza path"}}],
        "status": {"code": 1, "lock": {"backup": {"held": False}}, "message": "missing stanza path"},
    }
]


def stanza(*sets: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON of a stanza with these sets."""
    data = deepcopy(EMPTY)
    segments = {"id": "15-1", "max": "000000010000000000000006", "min": "000000010000000000000001"}
    data[0] |= {
        "archive": [{"database": {"id": 1, "repo-key": 1}, **segments}],
        "backup": list(sets),
        "db": [{"id": 1, "repo-key": 1, "system-id": 7711221918601462926, "version": "15"}],
        "name": "aivo-postgres",
        "status": {"code": 0, "lock": {"backup": {"held": False}}, "message": "ok"},
    }
    data[0]["repo"][0]["status"] = {"code": 0, "message": "ok"}
    return data


def backup_set(label: str, stopped: datetime, *, stop: str = "0/3000050", timeline: int = 1) -> BackupSet:
    """A set that ended at a time and position on a timeline."""
    number = int(stop.split("/")[1], 16) >> 24
    segment = f"{timeline:08X}{int(stop.split('/')[0], 16):08X}{number:08X}"
    made = {
        **FULL,
        "label": label,
        "archive": {"start": segment, "stop": segment},
        "lsn": {"start": stop, "stop": stop},
        "timestamp": {
            "start": int((stopped - timedelta(seconds=3)).timestamp()),
            "stop": int(stopped.timestamp()),
        },
    }
    return parse_info(json.dumps(stanza(made))).sets[0]
