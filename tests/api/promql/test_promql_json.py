"""Answers of queries as Prometheus writes them."""

import json
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.promql_json import number, numbers, points, scientific, shown, stamps, succeeded
from service.query.promql.evaluate import Result
from service.query.promql.expressions import ValueType
from service.query.promql.vectors import Steps, Vector

#: What Go's strconv.FormatFloat(v, 'f', -1, 64) gives, and 'e' below 1e-6 and from 1e21 on.
WRITTEN = {
    0.0: "0",
    1.0: "1",
    -1.5: "-1.5",
    0.1: "0.1",
    100.0: "100",
    1e15: "1000000000000000",
    1e16: "10000000000000000",
    123456789012345680.0: "123456789012345680",
    1e20: "100000000000000000000",
    1e21: "1e+21",
    -2.5e22: "-2.5e+22",
    1e-4: "0.0001",
    1.25e-5: "0.0000125",
    1e-6: "0.000001",
    1e-7: "1e-07",
    5e-324: "5e-324",
    1.7976931348623157e308: "1.7976931348623157e+308",
    math.inf: "+Inf",
    -math.inf: "-Inf",
}


def test_numbers_are_written_as_go_writes_them() -> None:
    texts = numbers(np.array(list(WRITTEN)))
    assert [text.decode() for text in texts] == list(WRITTEN.values())
    assert [number(value) for value in WRITTEN] == list(WRITTEN.values())
    assert numbers(np.array([math.nan, -0.0])) == [b"NaN", b"-0"]
    assert numbers(np.empty(0)) == []


@given(st.lists(st.floats(), max_size=50))
def test_all_numbers_come_back_the_same(values: list[float]) -> None:
    texts = numbers(np.array(values, np.float64))
    assert len(texts) == len(values)
    for value, text in zip(values, texts, strict=True):
        back = float(text)
        assert np.float64(back).tobytes() == np.float64(value).tobytes() or back != back
        assert points(stamps(np.zeros(1, np.int64)), np.array([value])) == b'[[0,"%b"]]' % text
        if 1e-6 <= abs(value) < 1e21:
            assert b"e" not in text
            shortest = Decimal(repr(value)).as_tuple().digits
            assert len(Decimal(text.decode()).normalize().as_tuple().digits) <= len(shortest)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0e+00"), (0.05, "5e-02"), (-12.5, "-1.25e+01"), (1e100, "1e+100"), (None, "NaN")],
)
def test_values_of_alerts_have_an_exponent(value: float | None, text: str) -> None:
    assert scientific(value) == text


def test_times_are_seconds_with_three_places() -> None:
    times = np.array([0, 1_700_000_000_000, 1_700_000_000_050, -1_500, 7])
    assert [bytes(each) for each in stamps(times)] == [
        b"0",
        b"1700000000",
        b"1700000000.050",
        b"-1.500",
        b"0.007",
    ]


A, B = (("__name__", "m"), ("a", "1")), (("__name__", "m"), ("a", "2"))


def vector(labels: list[tuple[tuple[str, str], ...]], values: object, present: object) -> Vector:
    return Vector(labels, np.array(values, np.float64), np.array(present, np.bool_))


def test_a_matrix_is_sorted_and_has_no_points_where_there_is_none() -> None:
    value = vector([B, A], [[1, 2, 3], [4, math.nan, 6]], [[1, 1, 1], [0, 1, 1]])
    result = Result(ValueType.VECTOR, value, Steps(0, 2500, 1000), ("w",), ("i",))
    assert json.loads(shown(result, False)) == {
        "status": "success",
        "data": {
            "resultType": "matrix",
            "result": [
                {"metric": dict(A), "values": [[1, "NaN"], [2, "6"]]},
                {"metric": dict(B), "values": [[0, "1"], [1, "2"], [2, "3"]]},
            ],
        },
        "warnings": ["w"],
        "infos": ["i"],
    }


def test_a_vector_keeps_its_order() -> None:
    value = vector([B, A], [[1], [2]], [[1], [1]])
    result = Result(ValueType.VECTOR, value, Steps(500, 500))
    assert json.loads(shown(result, True))["data"]["result"] == [
        {"metric": dict(B), "value": [0.5, "1"]},
        {"metric": dict(A), "value": [0.5, "2"]},
    ]
    cut = json.loads(shown(result, True, 1))
    assert len(cut["data"]["result"]) == 1
    assert cut["warnings"] == ["results truncated due to limit"]
    assert "warnings" not in json.loads(shown(result, True, 2))


def test_nothing_is_an_empty_list() -> None:
    result = Result(ValueType.VECTOR, Vector.empty(1), Steps(0, 0))
    assert shown(result, True) == (
        b'{"status":"success","data":{"resultType":"vector","result":[]}}'
    )


def test_scalars_and_strings() -> None:
    steps = Steps(1000, 2000, 1000)
    scalar = Result(ValueType.SCALAR, np.array([1.0, 2.0]), steps)
    assert json.loads(shown(scalar, False))["data"] == {
        "resultType": "matrix",
        "result": [{"metric": {}, "values": [[1, "1"], [2, "2"]]}],
    }
    once = Result(ValueType.SCALAR, np.array([1.0]), Steps(1000, 1000))
    assert json.loads(shown(once, True))["data"] == {"resultType": "scalar", "result": [1, "1"]}
    text = Result(ValueType.STRING, 'a "b"\n', Steps(1000, 1000))
    assert json.loads(shown(text, True))["data"] == {
        "resultType": "string",
        "result": [1, 'a "b"\n'],
    }


def test_labels_are_text_of_any_kind() -> None:
    labels = (("__name__", "m"), ("æ", '"\\\n\x00'))
    result = Result(ValueType.VECTOR, vector([labels], [[1]], [[1]]), Steps(0, 0))
    (series,) = json.loads(shown(result, True))["data"]["result"]
    assert series["metric"] == dict(labels)
    assert json.loads(succeeded(b"[]", ['"'])) == {
        "status": "success",
        "data": [],
        "warnings": ['"'],
    }
