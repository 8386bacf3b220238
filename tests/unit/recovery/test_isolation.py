"""Names of what is restored beside production."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivo_backup.recovery.parts import beside

PREFIX = "aivo-drill-0a1b2c-"
# S3's rules for a bucket's name, as MinIO holds them.
BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True).filter(
    lambda name: ".." not in name and ".-" not in name and "-." not in name
)


@given(BUCKETS)
def test_every_bucket_has_a_name_beside_it_that_s3_takes(bucket: str) -> None:
    name = beside(bucket, PREFIX)
    assert len(name) <= 63
    assert name.startswith(PREFIX)
    assert name[-1].isalnum()
    assert not any(pair in name for pair in ("..", ".-", "-."))
    if len(PREFIX) + len(bucket) <= 63:
        assert name == f"{PREFIX}{bucket}"


def test_two_long_names_stay_apart() -> None:
    long = "a" * 62
    assert beside(f"{long}b", PREFIX) != beside(f"{long}c", PREFIX)


@pytest.mark.parametrize("cut", [".", "-"])
def test_a_name_is_not_cut_at_a_mark_that_s3_refuses_there(cut: str) -> None:
    bucket = "a" * 35 + cut + "b" * 20
    assert f"{cut}-" not in beside(bucket, PREFIX)
