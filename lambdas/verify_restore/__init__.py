"""Restores the newest recovery point of a component into isolation and checks it."""
