import pytest

from aivo_backup.stores.opensearch.room import room_of

GIB = 1024**3


@pytest.mark.parametrize(
    ("watermark", "room"),
    [
        ("85%", 5 * GIB),
        ("0.85", 5 * GIB),
        ("12gb", 8 * GIB),
        ("100%", 20 * GIB),
        ("50%", 0),
        ("1tb", 0),
        ("0b", 20 * GIB),
    ],
)
def test_a_node_takes_in_what_is_free_below_its_watermark(watermark: str, room: int) -> None:
    disk = {"total_in_bytes": 100 * GIB, "available_in_bytes": 20 * GIB}
    assert abs(room_of(disk, watermark) - room) <= 1
