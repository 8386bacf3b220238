#!/usr/bin/env bash
# The runbook's manual snapshot of OpenSearch, kept for 30 days: ./os-snapshots.sh [option of `aivo-backup backup`]
# What became of each variable: docs/runbook-commands.md.
set -euo pipefail
# shellcheck source=infra/backup/entry.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/entry.sh"

take_backup opensearch --type full "$@"
