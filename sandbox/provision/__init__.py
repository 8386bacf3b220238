"""Realises the Pulumi program in the sandbox, in process: no Pulumi CLI, no provider plugins.

The program runs against Pulumi's mock engine. Each resource that it registers is handed to the realiser of its type
(:mod:`sandbox.provision.registry`), which makes it true in the sandbox's AWS API, and the ids and ARNs that come out
go back into the program, so that it is wired exactly as by `pulumi up`. Kubernetes objects become YAML manifests.
"""

from sandbox.provision.provisioner import STACK, Provisioner, is_provisioned
from sandbox.provision.resources import Change
from sandbox.provision.summary import Entry, Summary

__all__ = ["STACK", "Change", "Entry", "Provisioner", "Summary", "is_provisioned"]
