#!/usr/bin/env bash
# The runbook's manual backup of MinIO, a full one: ./minio-sync.sh [option of `aivo-backup backup`]
# What became of each variable: docs/runbook-commands.md.
set -euo pipefail
# shellcheck source=infra/backup/entry.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/entry.sh"

take_backup minio --type full "$@"
