"""Benchmarks beside what a user would pick instead; each module runs alone and writes ``build/bench/*.json``."""
