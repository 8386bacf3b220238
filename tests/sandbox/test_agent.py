"""The agent against real stores: what it publishes, and that a store which is away keeps no other from its own."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from aivo_backup.policy import metrics as named
from sandbox.state import Sandbox
from tests.sandbox.cli import Cli, closed_port


def values(text: str, metric: str) -> dict[str, float]:
    """The value of each series by its labels' values."""
    return {
        ",".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric
    }


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def test_metrics_are_printed_once_and_name_what_is_away(cli: Cli) -> None:
    cli.edit("endpoints.json", opensearch=f"https://localhost:{closed_port()}")
    done = cli.call("metrics")
    assert done.returncode == 0, done.stderr
    assert values(done.stdout, named.SOURCE_UP) == {
        "postgres": 1.0,
        "opensearch": 0.0,
        "catalog": 1.0,
        "keys": 1.0,
        "buckets": 1.0,
    }
    assert "aivo-backup: opensearch: " in done.stderr
    assert values(done.stdout, named.CLUSTER_STATUS) == {}
    assert set(values(done.stdout, named.KEY_USABLE)) == {"postgres", "minio", "opensearch", "compliance"}
    assert "minio,minio-backup,success" in values(done.stdout, named.JOBS)


def test_the_agent_serves_and_goes_on_while_a_store_is_away(cli: Cli, sandbox: Sandbox) -> None:
    cli.edit("endpoints.json", opensearch=f"https://localhost:{closed_port()}", agent="")
    assert cli.run("init", "minio").code == 0
    port = closed_port()
    program = str(Path(sys.executable).with_name("aivo-backup"))
    agent = subprocess.Popen(
        [program, "agent", "--interval", "0.3", "--listen", f"127.0.0.1:{port}"],
        env={**os.environ, **cli.variables},
        stderr=subprocess.PIPE,
        text=True,
    )

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    try:
        wait(lambda: get("/readyz")[0] == 200)
        first = values(get("/metrics")[1], named.HEARTBEAT)
        wait(lambda: values(get("/metrics")[1], named.HEARTBEAT).get("minio", 0) > first["minio"])
        up = values(get("/metrics")[1], named.SOURCE_UP)
        assert up["opensearch"] == up["heartbeat-opensearch"] == 0
        assert up["heartbeat-minio"] == up["catalog"] == up["postgres"] == 1
        assert get("/healthz")[0] == 200
    finally:
        agent.terminate()
        _, said = agent.communicate(timeout=30)
    assert agent.returncode == 0
    assert "aivo-backup: heartbeat-opensearch: " in said
    # Logins stay where they are.
    assert sandbox.secret("opensearch", "password") not in said


def test_an_address_that_is_taken_or_none_is_told(cli: Cli, sandbox: Sandbox) -> None:
    cli.edit("endpoints.json", agent="")
    assert "HOST:PORT" in cli.run("agent", "--listen", "9464").line
    finished = cli.run("agent", "--listen", f"127.0.0.1:{sandbox.ports.minio}")
    assert (finished.code, "cannot listen" in finished.line) == (3, True)
