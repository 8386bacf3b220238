# shellcheck shell=bash
# Sourced by the scripts beside it: finds `aivo-backup`, and takes one backup with the runbook's variables.

take_backup() {
  local checkout command
  checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
  if [[ -x "$checkout/.venv/bin/aivo-backup" ]]; then
    command="$checkout/.venv/bin/aivo-backup"
  elif ! command="$(command -v aivo-backup)"; then
    echo "${0##*/}: there is no aivo-backup: run \`make setup\` in the checkout, or use the job image" >&2
    exit 3
  fi
  # A checkout knows the sandbox, whose buckets bear the runbook's names: never taken for production by default.
  if [[ -z "${AIVO_BACKUP_ENVIRONMENT:-}${AIVO_BACKUP_SETTINGS:-}" ]]; then
    echo "${0##*/}: no environment is named: AIVO_BACKUP_ENVIRONMENT=prod ${0##*/}" >&2
    exit 3
  fi
  exec "$command" backup "$@" --runbook-variables
}
