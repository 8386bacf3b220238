"""A real single-node Kubernetes beside the sandbox, in a network namespace of its own."""
