"""The API of an EKS cluster for who has no kubeconfig: a token from AWS's identity, and Jobs made from a template.

A handful of calls is all that is needed, so there is no Kubernetes client here: it would double a function's package.
"""

import base64
import json
import ssl
from dataclasses import dataclass
from typing import Any

import boto3
import urllib3
from botocore.signers import RequestSigner
from urllib3.exceptions import HTTPError

from aivo_backup.errors import AccessDeniedError, BackupError, ConfigurationError, UnreachableError
from aivo_backup.stores.aws import translated

_TOKEN_SECONDS = 60
_TIMEOUT_SECONDS = 20.0
_CREATED, _DENIED, _MISSING, _TAKEN = 201, (401, 403), 404, 409


@dataclass(frozen=True, kw_only=True)
class ClusterApi:
    """One cluster's API.

    Attributes:
        url: for example ``https://ABC.gr7.us-east-1.eks.amazonaws.com``.
        authority: the cluster's certificate authority, PEM.
        token: a bearer token; it lives a quarter of an hour.
    """

    url: str
    authority: str
    token: str

    def start_job(self, namespace: str, cron_job: str, *, name: str) -> bool:
        """Makes a Job from a CronJob's template, as ``kubectl create job --from`` does.

        Args:
            name: the Job's name; it makes the call safe to repeat.

        Returns:
            whether it was made; False when a Job of that name is there already.

        Raises:
            ConfigurationError: there is no such CronJob.
            AccessDeniedError, UnreachableError: the cluster refuses, or does not answer.
        """
        base = f"/apis/batch/v1/namespaces/{namespace}"
        status, found = self.ask("GET", f"{base}/cronjobs/{cron_job}")
        if status == _MISSING:
            raise ConfigurationError(
                f"there is no CronJob {namespace}/{cron_job}", mend="run `pulumi up` for that environment"
            )
        template: dict[str, Any] = found["spec"]["jobTemplate"]
        labels: dict[str, str] = template.get("metadata", {}).get("labels", {})
        # The annotation tells the controller and a reader that somebody asked for it, as kubectl's own does.
        metadata = {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
        }
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}
        status, answer = self.ask("POST", f"{base}/jobs", job)
        if status not in (_CREATED, _TAKEN):
            raise BackupError(f"Job {namespace}/{name} was not made: {answer.get('message', status)}")
        return status == _CREATED

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """One request: the status below 500 that is no refusal, and the answer.

        Raises:
            ConfigurationError: the certificate authority is none.
            AccessDeniedError, UnreachableError: the cluster refuses, or does not answer.
        """
        try:
            context = ssl.create_default_context(cadata=self.authority)
        except (ssl.SSLError, TypeError, ValueError) as error:  # not PEM, not even ASCII, or empty
            raise ConfigurationError(
                f"the certificate authority of {self.url} cannot be read",
                mend="look at it with `aws eks describe-cluster`",
            ) from error
        with urllib3.PoolManager(ssl_context=context, timeout=_TIMEOUT_SECONDS, retries=2) as pool:
            try:
                answer = pool.request(
                    method,
                    f"{self.url}{path}",
                    body=json.dumps(body) if body is not None else None,
                    headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
                )
            except HTTPError as error:
                raise UnreachableError(
                    f"{self.url} does not answer: {type(error).__name__}",
                    mend="check the function's subnets or the pod's network policy, and the cluster's private endpoint",
                ) from error
        if answer.status in _DENIED:
            raise AccessDeniedError(
                f"{self.url} refuses {method} {path} ({answer.status})",
                mend="check the access entry and the role binding of who asks",
            )
        if answer.status >= 500:
            raise UnreachableError(f"{self.url} answers {answer.status}", mend="try again when the cluster is up")
        try:
            found: dict[str, Any] = json.loads(answer.data)
        except ValueError:
            found = {}
        return answer.status, found


def connect(session: boto3.Session, name: str) -> ClusterApi:
    """The API of a cluster in the session's account and region, under the session's identity.

    Raises:
        ConfigurationError: there is no such cluster.
        AccessDeniedError, UnreachableError: AWS refuses, or does not answer.
    """
    eks = session.client("eks")
    with translated(f"EKS cluster {name}"):
        try:
            cluster = eks.describe_cluster(name=name)["cluster"]
        except eks.exceptions.ResourceNotFoundException as error:
            raise ConfigurationError(
                f"there is no EKS cluster {name}", mend="correct cluster.name and run `pulumi up`"
            ) from error
    authority = base64.b64decode(cluster.get("certificateAuthority", {}).get("data", "")).decode(errors="replace")
    return ClusterApi(url=cluster.get("endpoint", ""), authority=authority, token=token(session, name))


def token(session: boto3.Session, name: str) -> str:
    """A bearer token that EKS takes for this identity: a signed, short-lived question to STS who is asking.

    Raises:
        ConfigurationError: the session has no credentials.
    """
    sts = session.client("sts")
    region = sts.meta.region_name
    credentials = session.get_credentials()
    if credentials is None:
        raise ConfigurationError("no AWS credentials", mend="give the function its role")
    signer = RequestSigner(sts.meta.service_model.service_id, region, "sts", "v4", credentials, session.events)
    request = {
        "method": "GET",
        "url": f"https://sts.{region}.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
        "body": {},
        "headers": {"x-k8s-aws-id": name},
        "context": {},
    }
    signed = signer.generate_presigned_url(request, operation_name="", expires_in=_TOKEN_SECONDS, region_name=region)
    return "k8s-aws-v1." + base64.urlsafe_b64encode(signed.encode()).decode().rstrip("=")
