#!/usr/bin/env bash
# The runbook's manual backup of PostgreSQL: BACKUP_TYPE=full|incr ./pgbackrest.sh [option of `aivo-backup backup`]
# What became of each variable: docs/runbook-commands.md.
set -euo pipefail
# shellcheck source=infra/backup/entry.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/entry.sh"

pass=()
if [[ -n "${ENCRYPTION_KEY_CMD:-}" ]]; then
  # By its nature a line for the shell. What it answers goes through a pipe: not into argv, not into a file.
  exec 3< <(bash -o pipefail -c "$ENCRYPTION_KEY_CMD")
  pass=(--expected-pass /dev/fd/3)
fi
take_backup postgres --type "${BACKUP_TYPE:-incr}" "${pass[@]}" "$@"
