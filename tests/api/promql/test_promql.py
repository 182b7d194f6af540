"""Prometheus' HTTP API, on real stores."""

import base64
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from service.domain.clock import iso
from service.domain.series import Series
from service.domain.tenants import Role
from service.rules.evaluator import Judgement
from service.wiring import Wiring
from tests.support.whole import key_of

NOW = 1_700_000_000
EU = {"__name__": "plays", "region": "eu"}
US = {"__name__": "plays", "region": "us"}
MATRIX = {"start": NOW - 120, "end": NOW, "step": "1m"}

Headers = dict[str, str]


async def ask(
    client: httpx.AsyncClient, headers: Mapping[str, str], path: str, **query: Any
) -> tuple[int, Any]:
    """The answer to GET, which is the same to POST where there is one."""
    query = {name.replace("match", "match[]"): value for name, value in query.items()}
    answer = await client.get(f"/api/v1/{path}", params=query, headers=headers)
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    if path in ("query", "query_range", "series", "labels", "query_exemplars", "format_query"):
        posted = await client.post(f"/api/v1/{path}", data=query, headers=headers)
        assert (posted.status_code, posted.json()) == (answer.status_code, told)
    assert told["status"] == ("success" if answer.status_code == 200 else "error")
    return answer.status_code, told


async def data(client: httpx.AsyncClient, headers: Headers, path: str, **query: Any) -> Any:
    status, told = await ask(client, headers, path, **query)
    assert status == 200, told
    return told["data"]


async def test_a_query_at_one_time(client: httpx.AsyncClient, reader: Headers) -> None:
    assert await data(client, reader, "query", query="plays") == {
        "resultType": "vector",
        "result": [{"metric": EU, "value": [NOW, "60"]}],
    }
    at = iso(NOW - 900.5)
    assert await data(client, reader, "query", query="plays", time=at) == {
        "resultType": "vector",
        "result": [
            {"metric": EU, "value": [NOW - 900.5, "44"]},
            {"metric": US, "value": [NOW - 900.5, "0.25"]},
        ],
    }
    assert await data(client, reader, "query", query='plays{region="eu"}[2m]') == {
        "resultType": "matrix",
        "result": [{"metric": EU, "values": [[NOW - 60, "59"], [NOW, "60"]]}],
    }
    for text, kind, shown in (("1e21", "scalar", "1e+21"), ('"a"', "string", "a")):
        found = await data(client, reader, "query", query=text, time=NOW)
        assert found == {"resultType": kind, "result": [NOW, shown]}


async def test_a_query_at_many_times(client: httpx.AsyncClient, reader: Headers) -> None:
    found = await data(client, reader, "query_range", query="plays", **MATRIX)
    values = [[NOW - 120, "58"], [NOW - 60, "59"], [NOW, "60"]]
    assert found == {"resultType": "matrix", "result": [{"metric": EU, "values": values}]}
    found = await data(client, reader, "query_range", query="rate(plays[5m]) > 0", **MATRIX)
    (series,) = found["result"]
    assert series["metric"] == {"region": "eu"}
    assert [float(v) for _, v in series["values"]] == pytest.approx([1 / 60] * 3)
    found = await data(client, reader, "query_range", query="errors", **MATRIX)
    assert [v for _, v in found["result"][0]["values"]] == ["1e-07"] * 3


async def test_how_far_is_looked_back_can_be_said(
    client: httpx.AsyncClient, reader: Headers
) -> None:
    query = {"query": 'plays{region="us"}', "time": NOW}
    assert (await data(client, reader, "query", **query))["result"] == []
    found = await data(client, reader, "query", lookback_delta="11m", **query)
    assert found["result"] == [{"metric": US, "value": [NOW, "0.25"]}]


async def test_as_many_as_are_wanted(client: httpx.AsyncClient, reader: Headers) -> None:
    cut = ["results truncated due to limit"]
    _, told = await ask(client, reader, "query", query='{__name__!=""}', limit=1)
    assert (len(told["data"]["result"]), told["warnings"]) == (1, cut)
    _, told = await ask(client, reader, "labels", limit=2)
    assert (told["data"], told["warnings"]) == (["__name__", "code"], cut)
    _, told = await ask(client, reader, "series", match='{__name__!=""}', limit=3)
    assert len(told["data"]) == 3
    assert "warnings" not in told


async def test_series_and_labels(client: httpx.AsyncClient, reader: Headers) -> None:
    assert await data(client, reader, "series", match="plays") == [EU, US]
    both = ["plays", 'errors{code=~"5.."}']
    assert await data(client, reader, "series", match=both) == [
        {"__name__": "errors", "code": "500"},
        EU,
        US,
    ]
    assert await data(client, reader, "labels") == ["__name__", "code", "region"]
    assert await data(client, reader, "labels", match="errors") == ["__name__", "code"]
    names = await data(client, reader, "label/__name__/values")
    assert names == ["errors", "plays"]
    values = "label/region/values"
    assert await data(client, reader, values, match=['plays{region!="us"}']) == ["eu"]
    assert await data(client, reader, "label/nothing/values") == []


async def test_what_metrics_are(client: httpx.AsyncClient, reader: Headers) -> None:
    counter = [{"type": "counter", "help": "", "unit": ""}]
    gauge = [{"type": "gauge", "help": "", "unit": ""}]
    assert await data(client, reader, "metadata") == {"errors": gauge, "plays": counter}
    assert await data(client, reader, "metadata", metric="plays") == {"plays": counter}
    assert await data(client, reader, "metadata", limit=1) == {"errors": gauge}


async def test_grafana_s_data_source(client: httpx.AsyncClient, reader: Headers) -> None:
    """The calls of its health check, its builder, its variables and its panels."""
    client.headers.update(reader | {"X-Grafana-Org-Id": "1"})
    about = (await client.get("/api/v1/status/buildinfo")).json()["data"]
    assert int(about["version"].partition(".")[0]) >= 3
    form = {"query": "1+1", "time": str(NOW)}
    checked = (await client.post("/api/v1/query", data=form)).json()
    assert checked["data"] == {"resultType": "scalar", "result": [NOW, "2"]}
    when = {"start": str(NOW - 3600), "end": str(NOW)}
    assert (await client.get("/api/v1/metadata", params={"limit": "40000"})).json()["data"]
    names = await client.get("/api/v1/label/__name__/values", params=when | {"limit": "40000"})
    assert names.json()["data"] == ["errors", "plays"]
    chosen = when | {"match[]": '{__name__="plays"}'}
    assert (await client.post("/api/v1/labels", data=chosen)).json()["data"] == [
        "__name__",
        "region",
    ]
    regions = await client.get("/api/v1/label/region/values", params=chosen)
    assert regions.json()["data"] == ["eu", "us"]
    assert (await client.post("/api/v1/series", data=chosen)).json()["data"] == [EU, US]
    panel = {"query": "sum by (region) (plays)", **{k: str(v) for k, v in MATRIX.items()}}
    found = (await client.post("/api/v1/query_range", data=panel | {"step": "60"})).json()
    assert [series["metric"] for series in found["data"]["result"]] == [{"region": "eu"}]
    exemplars = await client.post("/api/v1/query_exemplars", data={"query": "plays", **when})
    assert exemplars.json() == {"status": "success", "data": []}
    assert (await client.get("/api/v1/rules")).json()["data"] == {"groups": []}


@pytest.mark.parametrize(
    ("path", "query", "status", "kind", "said"),
    [
        ("query", {}, 400, "bad_data", 'invalid parameter "query": '),
        ("query", {"query": "plays["}, 400, "bad_data", 'invalid parameter "query": '),
        ("query", {"query": "1", "time": "x"}, 400, "bad_data", 'parse "x" to a valid timestamp'),
        ("query", {"query": "1", "time": "NaN"}, 400, "bad_data", "to a valid timestamp"),
        ("query", {"query": "1", "time": "9e99"}, 400, "bad_data", "to a valid timestamp"),
        ("query", {"query": "1", "timeout": "x"}, 400, "bad_data", 'parse "x" to a valid duration'),
        ("query", {"query": "1", "timeout": "300y"}, 400, "bad_data", '"300y" to a valid duration'),
        ("query", {"query": "1", "timeout": "0"}, 400, "bad_data", 'invalid parameter "timeout"'),
        ("query", {"query": "1", "limit": "-1"}, 400, "bad_data", 'invalid parameter "limit"'),
        ("query", {"query": "1", "lookback_delta": "-5m"}, 400, "bad_data", "lookback_delta"),
        ("query", {"query": 'abs({a=~"b("})'}, 400, "bad_data", "illegal regex for b("),
        ("query", {"query": 'vector(1) + on () {__name__!=""}'}, 422, "execution", "duplicate"),
        ("query", {"query": "x" * 20_000}, 400, "bad_data", "an expression may have 16,384"),
        ("query_range", {**MATRIX, "query": "plays[5m]"}, 400, "bad_data", "for range query"),
        ("query_range", {"query": "1"}, 400, "bad_data", 'cannot parse "" to a valid timestamp'),
        ("query_range", {**MATRIX, "query": "1", "step": ""}, 400, "bad_data", "valid duration"),
        (
            "query_range",
            {**MATRIX, "query": "1", "step": "-1"},
            400,
            "bad_data",
            "zero or negative",
        ),
        ("query_range", {**MATRIX, "query": "1", "end": 0}, 400, "bad_data", "before start time"),
        (
            "query_range",
            {"query": "1", "start": 0, "end": 11_001, "step": 1},
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries",
        ),
        ("series", {}, 400, "bad_data", "no match[] parameter provided"),
        ("series", {"match": "1"}, 400, "bad_data", "is no selector of series"),
        ("series", {"match": "plays offset 5m"}, 400, "bad_data", "is no selector of series"),
        ("labels", {"match": "{"}, 400, "bad_data", 'invalid parameter "match[]": '),
        ("labels", {"match": ["a"] * 101}, 400, "bad_data", "100 selectors are possible"),
        ("series", {"match": ["a" * 9000] * 2}, 400, "bad_data", "of 16,384 characters together"),
        ("label/region/values", {"start": 2, "end": 1}, 400, "bad_data", "must not be before"),
        ("rules", {"type": "x"}, 400, "bad_data", 'not supported value "x"'),
        ("nothing", {}, 404, "not_found", "there is no page /api/v1/nothing"),
    ],
)
async def test_errors_have_its_shape(
    client: httpx.AsyncClient,
    reader: Headers,
    path: str,
    query: dict[str, Any],
    status: int,
    kind: str,
    said: str,
) -> None:
    found, told = await ask(client, reader, path, **query)
    assert (found, told["errorType"]) == (status, kind), told
    assert said in told["error"]
    assert told.keys() == {"status", "errorType", "error"}


async def test_other_methods_are_told_those_that_there_are(
    client: httpx.AsyncClient, reader: Headers
) -> None:
    answer = await client.delete("/api/v1/query", headers=reader)
    assert (answer.status_code, answer.json()["status"]) == (405, "error")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_a_form_in_the_body_comes_before_the_url(
    client: httpx.AsyncClient, reader: Headers
) -> None:
    answer = await client.post(
        "/api/v1/query", params={"query": "1", "time": "5"}, data={"query": "2"}, headers=reader
    )
    assert answer.json()["data"]["result"] == [5, "2"]
    other = {"content-type": "text/plain", **reader}
    answer = await client.post("/api/v1/query?query=3&time=5", content=b"query=4", headers=other)
    assert answer.json()["data"]["result"] == [5, "3"]
    answer = await client.get("/api/v1/query?query=%ff", headers=reader)
    assert answer.status_code == 400


async def test_the_key_may_be_a_password(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.get("/api/v1/labels", auth=("anybody", key))
    assert answer.status_code == 200
    wrong = ["", f"x:{key[:-1]}", "x:"]
    for text in wrong:
        sent = {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
        answer = await client.get("/api/v1/labels", headers=sent)
        assert (answer.status_code, answer.json()["errorType"]) == (401, "unauthorized")
    answer = await client.get("/api/v1/labels", headers={"Authorization": "Basic ?"})
    assert answer.status_code == 401
    twice = await client.get("/api/v1/labels", auth=("x", key), headers={"X-API-Key": "ob_x"})
    assert twice.status_code == 401


async def test_no_tenant_sees_another(
    client: httpx.AsyncClient, parts: Wiring, reader: Headers, admin: Headers
) -> None:
    stranger = {"X-API-Key": await key_of(parts, "other", Role.READER)}
    anything = '{__name__=~".+"}'
    assert (await data(client, stranger, "query", query=anything))["result"] == []
    found = await data(client, stranger, "query_range", query=anything, **MATRIX)
    assert found["result"] == []
    assert await data(client, stranger, "series", match=anything) == []
    assert await data(client, stranger, "labels") == []
    assert await data(client, stranger, "label/__name__/values") == []
    assert await data(client, stranger, "metadata") == {}
    status, told = await ask(client, stranger | {"X-Tenant-ID": "acme"}, "query", query=anything)
    assert (status, told["errorType"]) == (404, "not_found")
    status, _ = await ask(client, admin, "query", query=anything)
    assert status == 400
    found = await data(client, admin | {"X-Tenant-ID": "acme"}, "query", query=anything)
    assert len(found["result"]) == 2
    writer = {"X-API-Key": await key_of(parts, "acme", Role.WRITER)}
    status, told = await ask(client, writer, "query", query=anything)
    assert (status, told["errorType"]) == (403, "forbidden")


async def test_rules_and_alerts(
    client: httpx.AsyncClient, parts: Wiring, reader: Headers, operator: Headers
) -> None:
    for name, extra in (("Many plays", {"for_duration": "5m"}), ("Few", {"severity": "low"})):
        rule = {"name": name, "query": "plays", "condition": "gt", "threshold": 50, **extra}
        answer = await client.post("/alerts/rules", json=rule, headers=operator)
        assert answer.status_code == 201, answer.text
    many = next(rule for rule in await parts.rules_of("acme") if rule.name == "Many plays")
    one = Series.of("plays", {"region": "eu"})
    labels = {**one.tags, "alertname": "Many plays"}
    await parts.engine.apply("acme", many, [Judgement(one, labels, True, 60.0)], NOW)

    alert = {
        "labels": {"severity": "medium", "region": "eu", "alertname": "Many plays"},
        "annotations": {},
        "state": "pending",
        "activeAt": iso(NOW),
        "value": "6e+01",
    }
    assert await data(client, reader, "alerts") == {"alerts": [alert]}
    (group,) = (await data(client, reader, "rules"))["groups"]
    assert (group["name"], group["file"]) == ("api", "api")
    assert group["interval"] == parts.settings.alert_evaluation_interval
    rules = {rule["name"]: rule for rule in group["rules"]}
    assert rules["Many plays"]["state"] == "pending"
    assert rules["Many plays"]["duration"] == 300
    assert rules["Many plays"]["query"] == "plays > 50"
    assert rules["Many plays"]["alerts"] == [alert]
    assert (rules["Few"]["state"], rules["Few"]["alerts"]) == ("inactive", [])
    assert rules["Few"]["labels"] == {"severity": "low"}
    assert {rule["type"] for rule in rules.values()} == {"alerting"}

    async def names(**query: str) -> list[str]:
        params = {name.replace("_list", "[]"): value for name, value in query.items()}
        answer = await client.get("/api/v1/rules", params=params, headers=reader)
        groups = answer.json()["data"]["groups"]
        return sorted(rule["name"] for each in groups for rule in each["rules"])

    assert await names(type="alert") == ["Few", "Many plays"]
    assert await names(type="record") == []
    assert await names(rule_name_list="Few") == ["Few"]
    assert await names(rule_group_list="file") == []
    assert await names(match_list='{severity="low"}') == ["Few"]
    await parts.rule_health.report("acme", {many.id: "no such thing"})
    (group,) = (await data(client, reader, "rules", exclude_alerts="true"))["groups"]
    broken = next(rule for rule in group["rules"] if rule["name"] == "Many plays")
    assert (broken["health"], broken["lastError"]) == ("err", "no such thing")
    assert "alerts" not in broken
    stranger = {"X-API-Key": await key_of(parts, "other", Role.READER)}
    assert await data(client, stranger, "alerts") == {"alerts": []}
    assert await data(client, stranger, "rules") == {"groups": []}


async def test_an_expression_is_formatted(client: httpx.AsyncClient, reader: Headers) -> None:
    assert await data(client, reader, "format_query", query="sum(  plays)by(region)") == (
        "sum by (region) (plays)"
    )
    for text in ('info(plays, {region=""})', "info(plays, {})"):
        assert await data(client, reader, "format_query", query=text) == text
    raw = r"plays{region=~`e\w`}>1_0"
    assert await data(client, reader, "format_query", query=raw) == r'plays{region=~"e\\w"} > 10'


@pytest.mark.parametrize("path", ["query", "format_query", "query_exemplars"])
@pytest.mark.parametrize("text", ["plays offset Inf", "plays @ 1e300", "plays[99999999999999]"])
async def test_lengths_and_times_out_of_range(
    path: str, text: str, client: httpx.AsyncClient, reader: Headers
) -> None:
    status, told = await ask(client, reader, path, query=text, start=NOW, end=NOW)

    assert (status, told["errorType"]) == (400, "bad_data")
    assert "out of" in told["error"]
