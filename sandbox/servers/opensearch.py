"""OpenSearch (the minimal distribution, which has no security plugin) and the proxy that gives it TLS and a login."""

import base64
import hashlib
import os
import shutil

from aivo_backup.stores.process import as_owner
from sandbox.servers.base import Server
from sandbox.servers.http import ask

# Lines of the distribution's JVM options that do not fit a 512 MB demonstration on any JDK: the garbage collector's
# and its log's, the heap's, and a module that small Java runtimes leave out.
_DROPPED = ("-Xms", "-Xmx", "UseG1GC", "G1ReservePercent", "InitiatingHeap", "Xlog:gc", "incubator.vector", "HeapDump")
_JVM_OPTIONS = (
    "-Xms512m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # compiles less well and at once: half the work of a start
    "-XX:ErrorFile=logs/jvm-error-%p.log",
)


class OpenSearch(Server):
    """A single node, plain HTTP on loopback, meant for the proxy alone; ``fs`` repositories lie in ``snapshots``."""

    name = "opensearch"
    ports = ("opensearch_direct", "opensearch_transport")
    patience_seconds = 300.0  # a machine under load takes its time; a dead process is noticed at once

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.sandbox.ports.opensearch_direct}"

    def prepare(self) -> None:
        home, ports = self.sandbox.home / "opensearch", self.sandbox.ports
        for folder in ("config", "data", "logs", "snapshots"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(home / "tmp", ignore_errors=True)
        (home / "tmp").mkdir()
        source = self.sandbox.tools.opensearch_home / "config"
        options = (source / "jvm.options").read_text(encoding="utf-8").splitlines()
        kept = [line for line in options if line and not line.startswith("#") and not any(x in line for x in _DROPPED)]
        (home / "config" / "jvm.options").write_text("\n".join((*kept, *_JVM_OPTIONS, "")), encoding="utf-8")
        shutil.copyfile(source / "log4j2.properties", home / "config" / "log4j2.properties")
        settings = {
            "cluster.name": "aivo-sandbox",
            "node.name": "sandbox",
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": ports.opensearch_direct,
            "transport.port": ports.opensearch_transport,
            "path.data": home / "data",
            "path.logs": home / "logs",
            "path.repo": home / "snapshots",
            # A developer's well-filled disk must not turn indices read-only.
            "cluster.routing.allocation.disk.threshold_enabled": "false",
        }
        lines = "".join(f'{key}: "{value}"\n' for key, value in settings.items())
        (home / "config" / "opensearch.yml").write_text(lines, encoding="utf-8")

    def launch(self) -> None:
        home, tools = self.sandbox.home / "opensearch", self.sandbox.tools
        environment = {
            "OPENSEARCH_JAVA_HOME": str(tools.java_home),
            "OPENSEARCH_PATH_CONF": str(home / "config"),
            "OPENSEARCH_TMPDIR": str(home / "tmp"),
            "OPENSEARCH_JAVA_OPTS": "",
        }
        argv = [*as_owner(home), str(tools.opensearch_home / "bin" / "opensearch")]
        self.sandbox.processes.start(self.name, argv, log=self.log, environment=environment, cwd=home)

    def ailment(self) -> str:
        return ask(self.sandbox.ports.opensearch_direct, "/_cluster/health?wait_for_status=yellow&timeout=3s")


class OpenSearchProxy(Server):
    """nginx: TLS and basic authentication before OpenSearch, as production's security plugin gives them.

    Only the expirer's login may delete a snapshot.
    """

    name = "opensearch-proxy"
    ports = ("opensearch",)

    @property
    def address(self) -> str:
        return self.sandbox.opensearch_url

    def prepare(self) -> None:
        home, ports = self.sandbox.home / "proxy", self.sandbox.ports
        home.mkdir(parents=True, exist_ok=True)
        expirer = self._user("opensearch-expirer")
        for name, lines in (("users", self._user("opensearch") + expirer), ("expirers", expirer)):
            users = home / name
            users.touch(mode=0o600)
            users.write_text(lines, encoding="utf-8")
        (home / "nginx.conf").write_text(
            _NGINX.format(home=home, certificates=self.sandbox.certificates, ports=ports), encoding="utf-8"
        )

    def _user(self, secret: str) -> str:
        """A line of nginx's file of users."""
        password = self.sandbox.secret(secret, "password").encode()
        salt = os.urandom(8)
        # nginx's own salted form; the password is random, so its speed is no weakness.
        digest = base64.b64encode(hashlib.sha1(password + salt, usedforsecurity=False).digest() + salt).decode()
        return f"{self.sandbox.secret(secret, 'username')}:{{SSHA}}{digest}\n"

    def launch(self) -> None:
        home = self.sandbox.home / "proxy"
        argv = [*as_owner(home), str(self.sandbox.tools.nginx), "-p", str(home), "-e", "stderr", "-c", "nginx.conf"]
        self.sandbox.processes.start(self.name, argv, log=self.log, cwd=home)

    def ailment(self) -> str:
        login = (self.sandbox.secret("opensearch", "username"), self.sandbox.secret("opensearch", "password"))
        # Its own page: whether OpenSearch is up is OpenSearch's affair.
        return ask(self.sandbox.ports.opensearch, "/_proxy", ca_file=self.sandbox.ca_file, login=login)


_NGINX = """\
daemon off;
worker_processes 1;
pid "{home}/nginx.pid";
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path "{home}/body";
  proxy_temp_path "{home}/proxy";
  fastcgi_temp_path "{home}/fastcgi";
  uwsgi_temp_path "{home}/uwsgi";
  scgi_temp_path "{home}/scgi";
  client_max_body_size 0;
  upstream opensearch {{
    server 127.0.0.1:{ports.opensearch_direct};
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{ports.opensearch} ssl;
    ssl_certificate "{certificates}/server.crt";
    ssl_certificate_key "{certificates}/server.key";
    auth_basic "OpenSearch";
    auth_basic_user_file "{home}/users";
    location = /_proxy {{
      try_files /none @works;
    }}
    location @works {{
      return 204;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Authorization "";
    proxy_read_timeout 900s;
    proxy_request_buffering off;
    location / {{
      proxy_pass http://opensearch;
    }}
    location ~ ^/_snapshot/[^/]+/. {{
      limit_except GET POST PUT {{
        auth_basic_user_file "{home}/expirers";
      }}
      proxy_pass http://opensearch;
    }}
  }}
}}
"""
