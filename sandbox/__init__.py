"""The product on one machine: real stores and a stand-in for AWS's API, on loopback, state under `.sandbox/`."""
