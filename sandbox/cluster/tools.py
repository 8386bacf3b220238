"""Where the programs of the cluster are, as the set-up found or built them."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from aivo_backup.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class ClusterTools:
    """Programs of ``.tools/cluster.json``.

    Attributes:
        kubernetes: folder of kube-apiserver, kubelet, kubectl and the others, of pause and coredns.
        cni: folder of the network plugins.
    """

    kubernetes: Path
    etcd: Path
    containerd: Path
    ctr: Path
    runc: Path
    cni: Path
    socat: Path
    iptables: Path
    conntrack: Path
    ip: Path
    nsenter: Path
    mmdebstrap: Path

    @classmethod
    def load(cls, checkout: Path) -> Self:
        """Reads what the set-up wrote.

        Raises:
            ConfigurationError: `python -m sandbox.setup --cluster` has not run, or a tool is gone.
        """
        file = checkout / ".tools" / "cluster.json"
        mend = "run `make setup-cluster`"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            tools = cls(**{field.name: Path(content[field.name]) for field in fields(cls)})
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{file} is missing or incomplete", mend=mend) from error
        for field in fields(cls):
            if not getattr(tools, field.name).exists():
                raise ConfigurationError(f"{getattr(tools, field.name)} is gone", mend=mend)
        return tools

    def program(self, name: str) -> str:
        """One of Kubernetes' own programs."""
        return str(self.kubernetes / name)
