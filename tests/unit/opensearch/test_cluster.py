import logging

import pytest

from aivo_backup.errors import AccessDeniedError, BackupError, ConfigurationError, UnreachableError
from aivo_backup.stores.opensearch.client import ClusterError, connect
from aivo_backup.stores.opensearch.cluster import Cluster, in_batches
from tests.unit.opensearch.stub import Answer, serving


def cluster(url: str, slept: list[float] | None = None) -> Cluster:
    return Cluster(connect(url, "", "", ""), sleep=(slept if slept is not None else []).append)


@pytest.mark.parametrize(
    ("answer", "kind", "match"),
    [
        ((401, "<html>nginx says 401</html>"), AccessDeniedError, "reading: OpenSearch refuses the login"),
        (
            (403, {"error": {"type": "security_exception", "reason": "no permissions for [x]"}}),
            AccessDeniedError,
            "no perm",
        ),
        ((403, {"error": {"type": "cluster_block_exception", "reason": "read-only"}}), ClusterError, "read-only"),
        ((429, "busy"), UnreachableError, "answers 429"),
        ((502, "<html>\nbad\ngateway</html>"), UnreachableError, "answers 502"),
        (
            (500, {"error": {"type": "a", "reason": "outer", "caused_by": {"type": "b", "reason": "inner"}}}),
            ClusterError,
            "reading: a: outer; b: inner",
        ),
        ((400, {"error": "plain words"}), ClusterError, "plain words"),
    ],
)
def test_each_answer_becomes_one_line_of_ours(answer: Answer, kind: type[BackupError], match: str) -> None:
    with serving({"GET /x": [answer]}) as stub, pytest.raises(kind, match=match) as caught:
        cluster(stub.url).get("x", what="reading")
    assert "\n" not in str(caught.value)
    assert type(caught.value) is kind


def test_nobody_there_is_unreachable_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        cluster("http://127.0.0.1:9").get("x", what="reading")
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("opensearch").isEnabledFor(logging.ERROR)


def test_reading_waits_for_a_cluster_that_comes_back_as_long_as_it_may() -> None:
    slept: list[float] = []
    with serving({"GET /x": [(503, {}), (503, {}), (200, {"fine": True})]}) as stub:
        assert cluster(stub.url, slept).get("x", what="reading", patience_seconds=60) == {"fine": True}
    assert len(slept) == 2
    with serving({"GET /x": [(503, {})]}) as stub, pytest.raises(UnreachableError):
        cluster(stub.url, slept).get("x", what="reading", patience_seconds=10)
    assert sum(slept[2:]) >= 10


def test_a_refused_login_is_not_asked_again_and_a_change_is_sent_once() -> None:
    slept: list[float] = []
    with serving({"GET /x": [(401, "no")], "PUT /x": [(503, {})]}) as stub:
        with pytest.raises(AccessDeniedError):
            cluster(stub.url, slept).get("x", what="reading", patience_seconds=60)
        with pytest.raises(UnreachableError):
            cluster(stub.url, slept).put("x", what="writing", body={})
        assert [asked for asked, _ in stub.asked] == ["GET /x", "PUT /x"]
    assert slept == []


@pytest.mark.parametrize(
    ("url", "ca_file", "match"),
    [("localhost:9200", "", "https://host:port"), ("https://localhost", "/no/such/ca.pem", "No such file")],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_sent(url: str, ca_file: str, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        connect(url, ca_file, "", "")


def test_names_with_odd_characters_stay_one_part_of_the_path() -> None:
    with serving({"GET /a%2Fb%3Fc/_count": [(200, {})]}) as stub:
        assert cluster(stub.url).get("a/b?c", "_count", what="reading") == {}


def test_batches_hold_every_name_and_fit_into_a_request_line() -> None:
    names = [f"index-é-{number}" * 3 for number in range(300)]
    batches = in_batches(names)
    assert ",".join(batches).split(",") == names
    assert all(len(batch) < 3_000 for batch in batches)
    assert in_batches([]) == []
