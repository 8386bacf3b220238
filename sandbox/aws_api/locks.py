"""What S3 asks for where a version could be lost, and moto does not.

- A lock may be made longer. Making it shorter or taking it off is refused in COMPLIANCE mode to everybody, and in
  GOVERNANCE mode to whoever does not ask for the bypass.
- Asking for the bypass takes ``s3:BypassGovernanceRetention``.
- A request that deletes several objects takes ``s3:DeleteObjectVersion`` when it names a version.
"""

from datetime import UTC, datetime
from typing import Any

import xmltodict
from moto.s3.exceptions import AccessDeniedByLock
from moto.s3.responses import S3Response

from sandbox.aws_api import objects

_BYPASS = "X-Amz-Bypass-Governance-Retention"


def install() -> None:
    """Puts the checks in front of moto's handlers; once, however often it is called."""
    response: Any = S3Response
    put, delete, delete_several = (
        response.put_object_retention,
        response.delete_object,
        response._bucket_response_delete_keys,
    )
    if put.__module__ == __name__:
        return

    def put_object_retention(self: Any) -> Any:
        mode, until = self._mode_until_from_body()
        key = self.backend.get_object(self.bucket_name, self.parse_key_name(), version_id=self._get_param("versionId"))
        if key is not None and _weakens(key, mode, until):
            if key.lock_mode == "COMPLIANCE" or not _bypasses(self):
                raise AccessDeniedByLock
            _demand(self, "BypassGovernanceRetention", self.parse_key_name())
        return put(self)

    def delete_object(self: Any) -> Any:
        if _bypasses(self):
            _demand(self, "BypassGovernanceRetention", self.parse_key_name())
        return delete(self)

    def delete_keys(self: Any, bucket_name: str, authenticated: bool = True) -> Any:
        named = xmltodict.parse(self.body, force_list=("Object",), strip_whitespace=False)["Delete"].get("Object", [])
        if _bypasses(self):
            _demand(self, "BypassGovernanceRetention", "*")
        for entry in named:
            if entry.get("VersionId"):
                _demand(self, "DeleteObjectVersion", entry["Key"])
        return delete_several(self, bucket_name, authenticated)

    response.put_object_retention = put_object_retention
    response.delete_object = delete_object
    response._bucket_response_delete_keys = delete_keys


def _bypasses(response: Any) -> bool:
    return str(response.headers.get(_BYPASS, "")).lower() == "true"


def _demand(response: Any, action: str, key: str) -> None:
    """Refuses the request when its sender may not do this too, as far as policies are enforced."""
    asked = response.data.get("Action")
    response.data["Action"] = action
    response._authenticate_and_authorize_s3_action(bucket_name=response.bucket_name, key_name=key)
    response.data["Action"] = asked


def _weakens(key: Any, mode: str | None, until: str | None) -> bool:
    if not key.lock_mode or not objects.locked_at(key, datetime.now(UTC)):
        return False
    if not mode or not until or (key.lock_mode == "COMPLIANCE" and mode != "COMPLIANCE"):
        return True
    return _moment(until) < _moment(key.lock_until)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
