"""Compares the catalog with what a component's backups really hold."""
