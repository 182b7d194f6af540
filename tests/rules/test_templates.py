"""Templates of labels and annotations; what is expected is what Prometheus writes."""

# ruff: noqa: E501 - each case is one line

import math

import pytest

from service.domain.errors import InvalidInput
from service.query.promql.budget import QueryTimeout
from service.rules.go_format import Sample, float_text
from service.rules.template_tokens import TemplateProblem
from service.rules.templates import AlertData, check_template, expand

DATA = AlertData(
    {"__name__": "m", "instance": "h.example.org:9100", "job": "web"},
    1234567.5,
    {"dc": "eu"},
    "http://x.example/prom",
)
UP = [
    Sample({"__name__": "up", "i": "b10"}, 2000.0),
    Sample({"__name__": "up", "i": "b2"}, 1.0),
]


def query(text: str) -> list[Sample]:
    if text == "nothing":
        return []
    if text != "up":
        raise InvalidInput(f"cannot parse {text}")
    return UP


def expanded(text: str) -> str:
    return expand(text, "__alert_A", DATA, 60_000, query)


# fmt: off
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain", "plain"),
        ("{{ $value }} {{ .Value }} {{ $labels.job }} {{ .Labels.nope }}|", "1.2345675e+06 1.2345675e+06 web |"),
        ("{{ $externalLabels.dc }} {{ $externalURL }} {{ pathPrefix }} {{ externalURL }}", "eu http://x.example/prom /prom http://x.example/prom"),
        ("{{ $.Labels.job }} {{ $labels }}", "web map[__name__:m instance:h.example.org:9100 job:web]"),
        ("{{ 1 }} {{ 1.0 }} {{ 1e3 }} {{ 0x1F }} {{ 'a' }} {{ true }} {{ `r` }} {{ 1_000 }} {{ -5 }} {{ 010 }}", "1 1 1000 31 97 true r 1000 -5 8"),
        # printing
        ('{{ printf "%d %5d|%-5d|%05d|%+d|%x" 5 5 5 5 5 255 }}', "5     5|5    |00005|+5|ff"),
        ('{{ printf "%f %.1f|%8.2f|%e %g" $value $value 1.5 $value $value }}', "1234567.500000 1234567.5|    1.50|1.234568e+06 1.2345675e+06"),
        ('{{ printf "%s|%10s|%-4s|%.2s|%q|%x|%v" "abc" "abc" "abc" "abc" "a\\"b" "abc" "abc" }}', 'abc|       abc|abc |ab|"a\\"b"|616263|abc'),
        ('{{ printf "%d" $value }} {{ printf "%s" 1.5 }} {{ printf "%d" "x" }}', "%!d(float64=1.2345675e+06) %!s(float64=1.5) %!d(string=x)"),
        ('{{ printf "%v %v" 1 }} {{ printf "%v" 1 2 }} {{ printf "%" }} {{ printf "%%" }}', "1 %!v(MISSING) 1%!(EXTRA int=2) %!(NOVERB) %"),
        ('{{ printf "%T %T %T" 1 1.5 $labels }} {{ printf "%*d|%.*f" 5 3 2 1.2345 }}', "int float64 map[string]string     3|1.23"),
        ('{{ printf "%[2]d %[1]d" 1 2 }} {{ printf "%+q %#q" "é" "a" }}', '2 1 "\\u00e9" `a`'),
        ('{{ print 1 2 "a" "b" 3 4.0 true nil }}|{{ println 1 "a" }}', "1 2ab3 4 true <nil>|1 a\n"),
        # conditions
        ("{{ if gt $value 1.0 }}big{{ else if eq 1 2 }}x{{ else }}small{{ end }}", "big"),
        ('{{ and 1 0 2 }} {{ or 0 "" "x" }} {{ not 1 }} {{ 1 | and 2 }} {{ 0 | or 0 }}', "0 x false 1 0"),
        ('{{ eq 1 2 3 1 }} {{ ne 1 2 }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt 2.0 1.0 }} {{ ge "b" "a" }}', "true true true true true true"),
        ("{{ with $labels.job }}j={{ . }}{{ end }}{{ with $labels.no }}x{{ else }}none{{ end }}", "j=webnone"),
        # loops and variables
        ('{{ range $i, $x := query "up" | sortByLabel "i" }}{{ $i }}={{ $x.Labels.i }}:{{ .Value | humanize }};{{ end }}', "0=b2:1;1=b10:2k;"),
        ('{{ range query "nothing" }}x{{ else }}none{{ end }}', "none"),
        ("{{ range $k, $v := $externalLabels }}{{ $k }}={{ $v }}{{ end }}", "dc=eu"),
        ('{{ range $i, $x := query "up" }}{{ if eq $i 1 }}{{ break }}{{ end }}{{ $i }}{{ end }}', "0"),
        ('{{ range $i, $x := query "up" }}{{ if eq $i 0 }}{{ continue }}{{ end }}{{ $i }}{{ end }}', "1"),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ("{{ $x := 5 }}{{ $x }}{{ if true }}{{ $x = 7 }}{{ $y := 1 }}{{ end }}{{ $x }}", "57"),
        # templates, comments, white space
        ('{{ define "t" }}[{{ . }}]{{ end }}{{ template "t" $labels.job }}{{ template "t" }}', "[web][<no value>]"),
        ('{{ block "b" 5 }}<{{ . }}>{{ end }}', "<5>"),
        ('  {{- " a " -}}   b   {{- /* comment */ -}}  c {{/* x */}} d', " a bc  d"),
        # queries
        ('{{ query "up" | first | value }} {{ (query "up" | first).Labels.i }} {{ query "up" | len }}', "2000 b10 2"),
        ('{{ (index (query "up") 1).Value }} {{ slice (query "up") 1 | len }}', "1 1"),
        # Prometheus' functions
        ('{{ title "hello world_x it\'s a.b" }} {{ toUpper "é" }} {{ "ABC" | toLower }}', "Hello World_x It'S A.B É abc"),
        ('{{ reReplaceAll "(.*):(.*)" "$2-${1}x$1x" "a:b" }} {{ match "a.c" "xabcx" }} {{ match "^a" "ba" }}', "b-ax true false"),
        ('{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }} {{ stripDomain "192.0.2.1:12" }} {{ stripPort "[::1]:80" }}', "h.example.org h:9100 192.0.2.1:12 ::1"),
        ("{{ humanize 0.0 }} {{ humanize 1234567.0 }} {{ humanize 0.00012 }} {{ humanize 1e30 }} {{ humanize -1500.0 }}", "0 1.235M 120u 1e+06Y -1.5k"),
        ('{{ humanize1024 1048576.0 }} {{ humanize1024 0.5 }} {{ humanize1024 "2048" }}', "1Mi 0.5 2ki"),
        ("{{ humanizeDuration 0.0 }} {{ humanizeDuration 86461.5 }} {{ humanizeDuration 1.5 }} {{ humanizeDuration 0.001234 }} {{ humanizeDuration -3661.0 }}", "0s 1d 0h 1m 1s 1.5s 1.234ms -1h 1m 1s"),
        ('{{ humanizePercentage 0.1234567 }} {{ humanizePercentage "0.5" }}', "12.35% 50%"),
        ("{{ humanizeTimestamp 1435065584.128 }} {{ 0 | toTime }} {{ toDuration 3661.5 }}", "2015-06-23 13:19:44.128 +0000 UTC 1970-01-01 00:00:00 +0000 UTC 1h1m1.5s"),
        ('{{ parseDuration "1h2m10ms" }} {{ now }}', "3720.01 60"),
        ('{{ args 1 "b" }} {{ (args 1 2).arg1 }} {{ (args 1).arg7 }}', "map[arg0:1 arg1:b] 2 <no value>"),
        ('{{ graphLink "up{a=\\"b\\"}" }} {{ tableLink "up + 1" }}', "/graph?g0.expr=up%7Ba%3D%22b%22%7D&g0.tab=0 /graph?g0.expr=up+%2B+1&g0.tab=1"),
        ('{{ html "<a href=\'x\'>&\\"" }} {{ js "it\'s <b>" }} {{ urlquery "a b&c/d~e" }} {{ urlQueryEscape "a b" }}', "&lt;a href=&#39;x&#39;&gt;&amp;&#34; it\\'s \\u003Cb\\u003E a+b%26c%2Fd~e a+b"),
        ('{{ len "é" }} {{ index $labels "job" }} {{ slice "abcdef" 1 3 }} {{ safeHtml "<b>" }}', "2 web bc <b>"),
    ],
)
def test_text(text: str, said: str) -> None:
    assert expanded(text) == said


@pytest.mark.parametrize(
    ("text", "at", "reason"),
    [
        ('{{ first (query "nothing") }}', '1:115: executing "__alert_A" at <first (query "nothing")>', "error calling first: first() called on vector with no elements"),
        ("{{ gt $value 1 }}", '1:115: executing "__alert_A" at <gt $value 1>', "error calling gt: incompatible types for comparison"),
        ("{{ toUpper 5 }}", '1:123: executing "__alert_A" at <5>', "expected string; found 5"),
        ("{{ 5 | toUpper }}", '1:119: executing "__alert_A" at <toUpper>', "wrong type for value; expected string; got int"),
        ('{{ toUpper "a" "b" }}', '1:115: executing "__alert_A" at <toUpper>', "wrong number of args for toUpper: want 1 got 2"),
        ("{{ $labels.job.x }}", '1:122: executing "__alert_A" at <$labels.job.x>', "can't evaluate field x in type string"),
        ("a\nb {{ humanize \"x\" }}", '2:5: executing "__alert_A" at <humanize "x">', 'error calling humanize: strconv.ParseFloat: parsing "x": invalid syntax'),
        ('{{ template "no" }}', '1:124: executing "__alert_A" at <{{template "no"}}>', 'template "no" not defined'),
        ('{{ query "up +" }}', '1:115: executing "__alert_A" at <query "up +">', "error calling query: cannot parse up +"),
        ('{{ reReplaceAll "(" "x" "y" }}', '1:115: executing "__alert_A" at <reReplaceAll "(" "x" "y">', "error calling reReplaceAll: regexp: Compile(`(`): error parsing regexp: missing closing ): `(`"),
        ("{{ index $labels 1 }}", '1:115: executing "__alert_A" at <index $labels 1>', "error calling index: value has type int; should be string"),
        ("{{ range 5.5 }}a{{ end }}", '1:121: executing "__alert_A" at <5.5>', "range can't iterate over 5.5"),
        ("{{ nil }}", '1:115: executing "__alert_A" at <nil>', "nil is not a command"),
        ("{{ 5 6 }}", '1:115: executing "__alert_A" at <5>', "can't give argument to non-function 5"),
    ],
)
def test_a_failure_becomes_the_text(text: str, at: str, reason: str) -> None:
    assert expanded(text) == (
        "<error expanding template: error executing template __alert_A: template: "
        f"__alert_A:{at}: {reason}>"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ nope }}", 'function "nope" not defined'),
        ("{{ $x }}", 'undefined variable "$x"'),
        ("{{ if }}{{ end }}", "missing value for if"),
        ("{{ 1", "unclosed action"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ else }}", "unexpected {{else}}"),
        ("{{ if 1 }}", "unexpected EOF"),
        ('{{ "abc }}', "unterminated quoted string"),
        ("{{ ( 1 }}", "unclosed left paren"),
        ("{{ 1 ) }}", 'unexpected ")" in command'),
        ("{{ }}", "missing value for command"),
        ("{{ break }}", "{{break}} outside {{range}}"),
        ('{{ template 5 }}', 'unexpected "5" in template clause'),
        ("{{ 3 | 4 }}", "non executable command in pipeline stage 2"),
        ("{{ @ }}", 'unexpected "@" in command'),
        ("{{/* x }}", "unclosed comment"),
        ('{{ "\\z" }}', "invalid syntax"),
        ("{{ 18446744073709551616 }}", 'integer overflow: "18446744073709551616"'),
        ("{{ 0b" + "1" * 100 + " }}", 'integer overflow: "0b' + "1" * 100 + '"'),
        ("{{ " + "(" * 60 + " }}", "more than 50 blocks and brackets are open"),
    ],
)
def test_what_is_no_template_is_said(text: str, reason: str) -> None:
    with pytest.raises(TemplateProblem) as caught:
        check_template(text, "__alert_A")
    assert str(caught.value) == f"template: __alert_A:1: {reason}"
    assert expanded(text) == (
        "<error expanding template: error parsing template __alert_A: "
        f"template: __alert_A:1: {reason}>"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ range 10000000 }}{{ end }}", "takes more than"),
        (
            '{{ $x := printf "%1000d" 1 }}{{ range 9000 }}{{ $y := js $x }}{{ end }}',
            "takes more than 100000 steps",
        ),
        ('{{ range 5000 }}{{ print "012345678901234567890" }}{{ end }}', "writes more than"),
        ('{{ range 1000 }}{{ query "up" }}{{ end }}', "a template may ask 50 queries"),
        ('{{ define "t" }}{{ template "t" }}{{ end }}{{ template "t" }}', "more than 50 templates"),
        ('{{ printf "%999999999d" 1 | len }}', ""),
        ('{{ $x := "aa" }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}', "more than 65536"),
        ("{{ $x := args 1 }}{{ range 60 }}{{ $x = args $x $x }}{{ end }}{{ $x }}", "more than 65536"),
        ('{{ printf "' + "%[1]s" * 80 + '" (printf "%1000d" 1) }}', "more than 65536"),
        ('{{ $x := printf "%1000d" 1 }}{{ reReplaceAll "" $x $x }}', "more than 65536"),
    ],
)
def test_work_is_bounded(text: str, reason: str) -> None:
    said = expanded(text)
    assert reason in said
    assert len(said) < 1000


def test_a_query_that_takes_too_long_becomes_the_text() -> None:
    def slow(_: str) -> list[Sample]:
        raise QueryTimeout("it takes too long")

    said = expand('{{ query "up" }}', "a", DATA, 60_000, slow)
    assert said.endswith('at <query "up">: error calling query: it takes too long>')


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (123456.0, "123456"), (1e6, "1e+06"),
        (1234567.5, "1.2345675e+06"), (0.0001, "0.0001"), (0.00001, "1e-05"), (1e21, "1e+21"),
        (1.5e-300, "1.5e-300"), (100.0, "100"), (0.1, "0.1"), (math.nan, "NaN"),
        (math.inf, "+Inf"), (-math.inf, "-Inf"), (5e-324, "5e-324"),
    ],
)
def test_floats_are_as_go_prints_them(value: float, text: str) -> None:
    assert float_text(value) == text
