"""The stand-in for AWS's API: moto in one server process, with what moto lacks and the product's proofs need."""
