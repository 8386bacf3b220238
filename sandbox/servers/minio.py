"""MinIO with one data folder, over TLS."""

import shutil

from sandbox.servers.base import Server
from sandbox.servers.http import ask


class Minio(Server):
    """A single-drive MinIO whose root credentials are the generated ones of ``minio-source``."""

    name = "minio"
    ports = ("minio",)

    @property
    def address(self) -> str:
        return self.sandbox.minio_url

    def prepare(self) -> None:
        home = self.sandbox.home / "minio"
        (home / "data").mkdir(parents=True, exist_ok=True)
        (home / "certs").mkdir(exist_ok=True)
        shutil.copyfile(self.sandbox.certificates / "server.crt", home / "certs" / "public.crt")
        key = home / "certs" / "private.key"
        key.touch(mode=0o600)
        shutil.copyfile(self.sandbox.certificates / "server.key", key)

    def launch(self) -> None:
        home = self.sandbox.home / "minio"
        argv = [str(self.sandbox.tools.minio), "server", "--quiet", f"--address=127.0.0.1:{self.sandbox.ports.minio}"]
        argv += [f"--certs-dir={home / 'certs'}", str(home / "data")]
        environment = {
            "MINIO_ROOT_USER": self.sandbox.secret("minio-source", "access-key"),
            "MINIO_ROOT_PASSWORD": self.sandbox.secret("minio-source", "secret-key"),
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "HOME": str(home),
        }
        self.sandbox.processes.start(self.name, argv, log=self.log, environment=environment, cwd=home)

    def ailment(self) -> str:
        return ask(self.sandbox.ports.minio, "/minio/health/live", ca_file=self.sandbox.ca_file)
