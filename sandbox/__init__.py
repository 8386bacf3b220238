"""The product on one machine: the real stores and a stand-in for AWS's API, all on loopback, state under `.sandbox/`."""
