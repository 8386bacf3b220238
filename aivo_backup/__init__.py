"""Backs up PostgreSQL, MinIO and OpenSearch, restores them, and keeps the proof that the restore worked."""

__version__ = "0.1.0"
