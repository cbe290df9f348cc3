"""Which processes train a model: RecBole's switches, and whom a file may name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_margo.errors import ConfigError
from recbole_margo.rules import whole

# The keys of a config that say which processes train; the numbers do not depend on them.
SWITCHES = ("nproc", "world_size", "group_offset", "offset", "ip", "port")


@dataclass(frozen=True)
class ProcessGroup:
    """One model's training in several processes, as RecBole's switches describe it.

    Args:
        here: processes that this machine starts (`nproc`).
        count: processes on all machines (`world_size`).
        offset: number of the first process of this machine (`group_offset`).
        host: the machine of process 0 (`ip`).
        port: where the processes meet on that machine; 0: any free one.
    """

    here: int = 1
    count: int = 1
    offset: int = 0
    host: str = "localhost"
    port: int = 0

    @classmethod
    def of_config(cls, config: Any) -> ProcessGroup:
        """Read `nproc`, `world_size`, `group_offset` (or `offset`), `ip` and `port`.

        Args:
            config: a config, or a mapping that has `get`'s meaning of a missing key.

        Raises:
            ConfigError: if they do not fit together.
        """

        def value(key: str, default: Any, least: int | None = None) -> Any:
            found = default if config[key] is None else config[key]
            if least is not None:
                whole(least)(key, found)
            return found

        here, count = value("nproc", 1, 1), value("world_size", -1, -1)
        count = here if count <= 0 else count
        offset = value("group_offset", value("offset", 0), 0)
        host, port = str(value("ip", "localhost")), _port(value("port", 0))
        if offset + here > count:
            raise ConfigError(
                f"`world_size` counts the processes of all machines: nproc={here} from "
                f"group_offset={offset} on needs world_size={offset + here} or more, found {count}"
            )
        if count > here and not port:
            raise ConfigError(
                f"{count - here} of {count} processes (`world_size`) are on other machines: name "
                "where all meet, --ip=ADDRESS --port=NUMBER of the machine with group_offset=0"
            )
        return cls(here, count, offset, host, port)

    @property
    def is_first(self) -> bool:
        """Whether process 0 is on this machine."""
        return self.offset == 0

    def variables(self, port: int) -> dict[int, dict[str, str]]:
        """Return what torchrun would tell each process of this machine, by its number here.

        The port is that of the store where all meet.
        """
        shared = {
            "WORLD_SIZE": self.count,
            "LOCAL_WORLD_SIZE": self.here,
            "MASTER_ADDR": self.host,
            "MASTER_PORT": port,
            "TORCHELASTIC_USE_AGENT_STORE": True,
            "TORCHELASTIC_RESTART_COUNT": 0,
        }
        return {
            local: {
                name: str(value)
                for name, value in {
                    **shared,
                    "RANK": self.offset + local,
                    "LOCAL_RANK": local,
                }.items()
            }
            for local in range(self.here)
        }


def _port(value: Any) -> int:
    text = str(value)
    if not text.isdigit() or int(text) > 65535:
        raise ConfigError(f"`port` must be a number up to 65535, found {value!r}")
    return int(text)


def check_other_machines(
    stored: Mapping[str, Any], said: Mapping[str, Any], where: str | Path
) -> None:
    """Refuse settings from a file that name other machines, unless the user names them too.

    Processes that train together send each other pickles: who meets a process can run any program
    in it.

    Args:
        said: what the user gave with the command.
        where: the file or folder, for the message.

    Raises:
        ConfigError: says what to give.
    """
    group = ProcessGroup.of_config(defaultdict(lambda: None, stored))
    meeting = {"world_size": group.count, "ip": group.host, "port": group.port}
    if group.count > group.here and any(str(said.get(k)) != str(v) for k, v in meeting.items()):
        raise ConfigError(
            f"{where} names processes on other machines, which could run any program here. If they "
            "are yours, give them with the command too: "
            + " ".join(f"--{key}={ascii(str(value))[1:-1]}" for key, value in meeting.items())
        )
