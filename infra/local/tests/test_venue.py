"""A venue file is taken whole, or refused with the lines that are wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.local.json_lines import WrongLine, parse_located
from infra.local.venue import read_venue
from libs.common.contract.catalog import ConcertDraft
from libs.common.errors import ConfigError

SAMPLE = Path(__file__).parents[1] / "sample_venue.json"


def _venue(**changes: Any) -> dict[str, Any]:
    row = {"name": "1", "seats": {"from": 1, "to": 2}}
    venue: dict[str, Any] = {
        "id": 2,
        "title": "T",
        "venue": "V",
        "schedules": [{"id": 7, "startsAt": "2027-03-01T19:00:00+09:00"}],
        "sections": [{"name": "A", "price": 5, "rows": [row]}],
    }
    return {**venue, **changes}


def _read(tmp_path: Path, venue: Any) -> dict[str, Any]:
    path = tmp_path / "venue.json"
    path.write_text(venue if isinstance(venue, str) else json.dumps(venue, indent=1))
    return read_venue(path)


def _refusal(tmp_path: Path, venue: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        _read(tmp_path, venue)
    return [line.removeprefix(f"{tmp_path}/venue.json:") for line in str(refused.value).splitlines()]


def test_the_sample_gives_each_schedule_the_same_seats_with_ids_in_file_order() -> None:
    concert = read_venue(SAMPLE)
    assert (concert["id"], concert["room"]) == (2, 1)
    assert [night["startsAt"] for night in concert["schedules"]] == ["2027-12-03T10:30:00Z", "2027-12-04T08:00:00Z"]
    first, second = (night["sections"] for night in concert["schedules"])
    assert first == second
    seats = [seat for section in first for row in section["rows"] for seat in row["seats"]]
    assert [seat["id"] for seat in seats] == list(range(1, 100))
    balcony = first[1]["rows"][0]["seats"]
    assert [(seat["number"], seat["price"]) for seat in balcony[2:4]] == [("3", 80_000), ("4", 60_000)]


def test_the_catalog_takes_what_the_sample_becomes() -> None:
    assert ConcertDraft.model_validate_json(json.dumps(read_venue(SAMPLE))).id == 2


def test_a_small_venue_becomes_exactly_what_the_catalog_takes(tmp_path: Path) -> None:
    seats = [{"id": 1, "number": "1", "price": 5}, {"id": 2, "number": "2", "price": 5}]
    assert _read(tmp_path, _venue()) == {
        "id": 2,
        "title": "T",
        "venue": "V",
        "room": 1,
        "schedules": [
            {
                "id": 7,
                "startsAt": "2027-03-01T10:00:00Z",
                "sections": [{"name": "A", "rows": [{"name": "1", "seats": seats}]}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"id": 1,\n "title": }', "2: not JSON: Expecting value"),
        ('{"id": 1,\n\n "id": 2}', "3: 'id' is there twice"),
        ("[" * 100_000, "1: not JSON that can be read"),
        ('{"a":' * 700 + "1" + "}" * 700, "1: not JSON that can be read"),
        ("[]", "1: the venue: Input should be a valid dictionary"),
    ],
    ids=["syntax", "a name twice", "endless", "deep", "a list"],
)
def test_what_is_not_a_venue_at_all_is_refused(tmp_path: Path, text: str, line: str) -> None:
    assert _refusal(tmp_path, text)[0].startswith(line)


def test_text_that_is_not_utf8_is_refused_with_its_line() -> None:
    with pytest.raises(WrongLine) as wrong:
        parse_located(b'{\n"a": "\xff"}')
    assert wrong.value.line == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"price": 5', '"price": "5"', "14: sections.0.price: Input should be a valid integer"),
        ('"price": 5', '"price": 5.5', "14: sections.0.price: Input should be a valid integer"),
        ('"price": 5', '"prise": 5', "14: sections.0.prise: Extra inputs are not permitted"),
        ('"to": 2', '"to": 0', "20: sections.0.rows.0.seats.to: Input should be greater than or equal to 1"),
        ('"from": 1', '"from": 3', "18: seats from 3 to 2 are not 1 to 20,000 seats"),
        ('"to": 2', '"to": 9007199254740991', "18: seats from 1 to 9007199254740991 are not 1 to 20,000 seats"),
        ("19:00:00+09:00", "19:00:00", "8: schedules.0.startsAt: '2027-03-01T19:00:00' is not a time with an offset"),
        ('"title": "T",', "", "1: the venue: title: Field required"),
        ('"title": "T"', '"title": " "', "3: title: String should have at least 1 character"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = json.dumps(_venue(), indent=1)
    assert old in text
    assert _refusal(tmp_path, text.replace(old, new))[0].startswith(said)


def test_every_wrong_line_is_told_in_order_and_contradictions_too(tmp_path: Path) -> None:
    seats = ["1", {"number": "1"}, {"number": "2", "price": 3}]
    venue = _venue(
        schedules=[{"id": 7, "startsAt": "2027-03-01T19:00:00Z"}, {"id": 7, "startsAt": "2027-03-02T19:00:00Z"}],
        sections=[{"name": "A", "rows": [{"name": "1", "seats": seats}]}, *_venue()["sections"]],
    )
    told = _refusal(tmp_path, venue)
    assert [line.split(": ", 1)[1] for line in told] == [
        "schedule 7 is there twice",
        "seat 1 has no price, neither here nor at its section",
        "seat 1 is there twice",
        "seat 1 has no price, neither here nor at its section",
        "section A is there twice",
    ]


def test_more_seats_than_there_may_be_are_refused(tmp_path: Path) -> None:
    rows = [{"name": str(number), "seats": {"from": 1, "to": 12_000}} for number in (1, 2)]
    told = _refusal(tmp_path, _venue(sections=[{"name": "A", "price": 5, "rows": rows}]))
    assert "24,000 seats in 1 schedules are too many" in told[0]


def test_only_the_first_ten_faults_are_told(tmp_path: Path) -> None:
    told = _refusal(tmp_path, _venue(sections=[{"name": "", "price": 5, "rows": []}] * 8))
    assert len(told) == 11
    assert told[-1].endswith("and 6 more")


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: No such file or directory"):
        read_venue(tmp_path / "none.json")
