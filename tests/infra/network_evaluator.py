"""Kubernetes' rules for network policies, as its documentation states them: may this pod open that connection?

A pod that no policy selects is free. One that is selected for a direction may do what any of the selecting policies'
rules for it allows, and nothing else. Empty `to` or `ports` of a rule mean all of them; an empty rule list, none.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What a pod connects to.

    Attributes:
        namespace: of the pod at the other end; empty for an address outside the cluster.
        address: of the other end, where it is outside.
    """

    port: int
    protocol: str = "TCP"
    namespace: str = ""
    address: str = ""


def may_connect(policies: Iterable[Mapping[str, Any]], labels: Mapping[str, str], wanted: Connection) -> bool:
    """Whether a pod with these labels may open the connection, under the specs of its namespace's policies."""
    selecting = [spec for spec in policies if _selects(spec, labels) and "Egress" in spec["policyTypes"]]
    return not selecting or any(_allows(rule, wanted) for spec in selecting for rule in spec.get("egress") or ())


_ANY: tuple[Mapping[str, Any], ...] = ({},)


def ways_in(policies: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> set[tuple[str, str]]:
    """Who may connect to a pod with these labels: namespace and port, `*` for any."""
    selecting = [spec for spec in policies if _selects(spec, labels) and "Ingress" in spec["policyTypes"]]
    if not selecting:
        return {("*", "*")}
    return {
        (_namespace(peer), str(port.get("port", "*")))
        for spec in selecting
        for rule in spec.get("ingress") or ()
        for peer in rule.get("from") or _ANY
        for port in rule.get("ports") or _ANY
    }


def _namespace(peer: Mapping[str, Any]) -> str:
    """The one namespace that a peer names; `*` for whatever else it may be."""
    if set(peer) != {"namespaceSelector"}:
        return "*"
    return str(peer["namespaceSelector"].get("matchLabels", {}).get("kubernetes.io/metadata.name", "*"))


def _selects(spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return spec["podSelector"].get("matchLabels", {}).items() <= labels.items()


def _allows(rule: Mapping[str, Any], wanted: Connection) -> bool:
    peers, ports = rule.get("to") or (), rule.get("ports") or ()
    to = not peers or any(_is(peer, wanted) for peer in peers)
    through = not ports or any(
        port.get("protocol", "TCP") == wanted.protocol and port.get("port") in (None, wanted.port) for port in ports
    )
    return to and through


def _is(peer: Mapping[str, Any], wanted: Connection) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        if not wanted.address:
            return False
        address = ipaddress.ip_address(wanted.address)
        excepted = any(address in ipaddress.ip_network(entry) for entry in block.get("except", ()))
        return address in ipaddress.ip_network(block["cidr"]) and not excepted
    selector = peer.get("namespaceSelector")
    if selector is None or not wanted.namespace:
        return False
    return selector.get("matchLabels", {}).items() <= {_NAMESPACE_LABEL: wanted.namespace}.items()
