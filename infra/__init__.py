"""The Pulumi program: everything that one environment has in an AWS account and a Kubernetes cluster.

Read :mod:`infra.program` first: it wires one component per file, in the order in which they depend on each other.
"""
