"""OpenSearch: its own snapshot API, taken, listed, restored and tested by us."""
