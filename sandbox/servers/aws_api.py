"""The stand-in for AWS's API: moto under gunicorn, which speaks TLS as pgBackRest needs it."""

import sys

from aivo_backup.errors import BackupError
from sandbox.servers.base import Server
from sandbox.state import ACCOUNT

_IN_MEMORY_BYTES = 256 * 1024


class AwsApi(Server):
    """One worker process, because all state is in its memory; threads carry the parallel requests."""

    name = "aws"
    ports = ("aws",)

    @property
    def address(self) -> str:
        return self.sandbox.aws_url

    def prepare(self) -> None:
        files = self.sandbox.home / "aws"
        (files / "objects").mkdir(parents=True, exist_ok=True)
        (files / "config").write_text(
            f"[default]\nregion = us-east-1\nendpoint_url = {self.sandbox.aws_url}\n"
            f"ca_bundle = {self.sandbox.ca_file}\ns3 =\n  addressing_style = path\n",
            encoding="utf-8",
        )
        credentials = files / "credentials"
        credentials.touch(mode=0o600)
        credentials.write_text(
            f"[default]\naws_access_key_id = {self.sandbox.secret('aws-admin', 'access-key-id')}\n"
            f"aws_secret_access_key = {self.sandbox.secret('aws-admin', 'secret-access-key')}\n",
            encoding="utf-8",
        )

    def launch(self) -> None:
        certificates = self.sandbox.certificates
        argv = [sys.executable, "-m", "gunicorn", "--config=python:sandbox.aws_api.gunicorn_settings"]
        argv += ["--no-control-socket", "--workers=1", "--threads=16", f"--bind=127.0.0.1:{self.sandbox.ports.aws}"]
        argv += ["--keep-alive=30", "--timeout=300", "--graceful-timeout=3", "--backlog=512"]
        argv += [f"--certfile={certificates / 'server.crt'}", f"--keyfile={certificates / 'server.key'}"]
        argv += ["sandbox.aws_api.app:create_app()"]
        environment = {"SANDBOX_SECRETS": str(self.sandbox.secrets), "SANDBOX_ACCOUNT": ACCOUNT}
        # moto keeps every stored object open: small ones in memory, larger ones as nameless files in this folder. The
        # fewer arenas, the less of what threads have freed stays with the process.
        environment |= {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(_IN_MEMORY_BYTES), "MALLOC_ARENA_MAX": "2"}
        environment |= {"TMPDIR": str(self.sandbox.home / "aws" / "objects")}
        # A cluster beside the sandbox reaches it as aws.<namespace>.svc.…, whose first label is no bucket.
        environment |= {"MOTO_S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
        # An access key of the caller's own must not sign what moto calls within itself.
        environment |= {"AWS_ACCESS_KEY_ID": "unused", "AWS_SECRET_ACCESS_KEY": "unused"}
        self.sandbox.processes.start(self.name, argv, log=self.log, environment=environment, cwd=self.sandbox.checkout)

    def ailment(self) -> str:
        try:
            self.sandbox.aws_control.instance()
        except BackupError as error:
            return str(error)
        return ""
