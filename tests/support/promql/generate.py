"""Random expressions over the series of `world`, right in their types, mostly with an answer.

Each knows how exact its values are, for two right implementations may differ in the last bits of
a sum or a logarithm; what would make much of such a difference (`floor`, `==`, a difference of
two) is made of exact values only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from tests.support.promql.vocabulary import (
    AGGREGATIONS,
    COMPARISONS,
    COUNTERS,
    DATES,
    JUMPING,
    MATHS,
    METRICS,
    NEW_WINDOWS,
    NUMBERS,
    ODD_NUMBERS,
    RANGES,
    WEIGHTS,
    WINDOWS,
    Exact,
    Made,
    Metric,
)

T = TypeVar("T")


@dataclass(frozen=True)
class _Place:
    """Where an expression stands: how deep it may go, and whether it is evaluated at whole seconds.

    Queries are at half seconds, the steps of subqueries at whole ones.
    """

    depth: int
    whole: bool = False

    def below(self) -> "_Place":
        return replace(self, depth=self.depth - 1)


class Generator:
    """Expressions, one after the other; the same for the same seed."""

    def __init__(
        self, random: Random, base_s: int, span_s: int, *, pins: bool = True, new: bool = False
    ) -> None:
        """Without `pins` there is no `@`, which makes steps depend on the whole query.

        With `new` there is what came with Prometheus 3.
        """
        self._random, self._base, self._span = random, base_s, span_s
        self._pins, self._new = pins, new

    def expression(self) -> Made:
        """A vector, or sometimes a scalar, with an error in some."""
        place = _Place(self._random.choice((1, 2, 2, 3, 3, 4)))
        if self._chance(0.05):
            return self.scalar(place)
        if self._chance(0.04):
            return self._sorted(place)
        return self.vector(place)

    def instant_vector(self) -> Made:
        """A vector, as it stands within a subquery."""
        return self.vector(_Place(2, whole=True))

    def vector(self, place: _Place) -> Made:
        """An instant vector."""
        if place.depth <= 0:
            return self._selected(place)
        kinds: tuple[tuple[Callable[[_Place], Made], int], ...] = (
            (self._selected, 2),
            (self._math, 4),
            (self._windowed, 8),
            (self._aggregated, 8),
            (self._ranked, 2),
            (self._with_scalar, 4),
            (self._one_to_one, 5),
            (self._grouped, 3),
            (self._set, 4),
            (self._anyhow, 1),
            (self._labelled, 2),
            (self._quantile_of_buckets, 2),
            (self._dated, 2),
            (self._absent, 1),
            (self._odd, 2),
        )
        made = self._one_of([kind for kind, _ in kinds], [weight for _, weight in kinds])(place)
        return self._bracketed(made)

    def scalar(self, place: _Place) -> Made:
        """A scalar."""
        roll = self._random.random()
        if place.depth <= 0 or roll < 0.5:
            odd = self._chance(0.1)
            number = self._one_of(ODD_NUMBERS if odd else NUMBERS)
            return Made(number, Exact.SAME if odd else Exact.SUMMABLE)
        if roll < 0.6:
            return Made("time()", Exact.SUMMABLE)
        if roll < 0.65:
            return Made("pi()", Exact.SAME)
        if roll < 0.85:
            inner = self.vector(place.below())
            # It may be NaN, of which Prometheus before 3 says that it deviates by nothing.
            return Made(f"scalar({inner.text})", min(inner.exact, Exact.SAME))
        left, right = self.scalar(place.below()), self.scalar(place.below())
        if self._chance(0.2) and min(left.exact, right.exact) > Exact.ROUGH:
            op = self._one_of(COMPARISONS)
            return Made(f"({left.text} {op} bool {right.text})", Exact.SUMMABLE)
        op, exact = self._operator(left.exact, right.exact)
        return Made(f"({left.text} {op} {right.text})", exact)

    # Selectors and windows.

    def _selected(self, place: _Place) -> Made:
        metric = self._one_of(METRICS, WEIGHTS)
        text = self._selector(metric) + self._moved()
        exact = Exact.SUMMABLE if metric.finite else Exact.SAME
        return Made(text, exact, frozenset(metric.key), metric.distinct)

    def _selector(self, metric: Metric) -> str:
        some = [m for m in metric.matchers if m and self._chance(0.35)]
        if self._chance(0.1):
            return "{" + ",".join([f'__name__="{metric.name}"', *some]) + "}"
        return metric.name + ("{" + ",".join(some) + "}" if some else "")

    def _moved(self) -> str:
        """`offset` and `@`, in either order."""
        parts = []
        if self._chance(0.15):
            parts.append(f"offset {self._one_of(('10s', '1m', '5m', '-1m', '-30s', '17m'))}")
        if self._pins and self._chance(0.08):
            second = self._base + self._random.randrange(self._span)
            parts.append(f"@ {self._one_of((f'{second}.5', 'start()', 'end()'))}")
        self._random.shuffle(parts)
        return "".join(f" {part}" for part in parts)

    def _window(self, place: _Place, *, counter: bool = False) -> Made:
        """A range vector, of counters if need be."""
        if place.depth > 0 and self._chance(0.3):
            return self._subquery(place, counter=counter)
        metrics = [m for m in METRICS if m.counter or not counter]
        metric = self._one_of(metrics, [WEIGHTS[METRICS.index(m)] for m in metrics])
        text = f"{self._selector(metric)}[{self._one_of(RANGES)}]{self._moved()}"
        exact = Exact.SUMMABLE if metric.finite else Exact.SAME
        return Made(text, exact, frozenset(metric.key), metric.distinct)

    def _subquery(self, place: _Place, *, counter: bool = False) -> Made:
        range_, step = self._one_of(
            (("2m", "15s"), ("5m", "30s"), ("5m", "1m"), ("10m", "1m"), ("15m", "45s"), ("7m", ""))
        )
        if counter:
            # Prometheus 3 extrapolates otherwise where a small counter begins within a window.
            inner = Made("bytes_total", Exact.SUMMABLE, frozenset({"job", "instance"}))
        else:
            inner = self.vector(_Place(min(place.depth - 1, 2), whole=True))
        pin = ""
        whole = place.whole
        if self._pins and self._chance(0.06):
            pin = f" @ {self._base + self._random.randrange(self._span)}.5"
            whole = False
        # The left edge must lie between the steps, so on a half second.
        offset = " offset 3500ms" if whole else self._one_of(("", "", "", " offset 90s"))
        text = f"{self._operand(inner)}[{range_}:{step}]{offset}{pin}"
        return replace(inner, text=text, distinct=False)

    # Functions.

    def _math(self, place: _Place) -> Made:
        inner = self.vector(place.below())
        names = [n for n in MATHS if inner.exact > Exact.ROUGH or n not in JUMPING]
        name = self._one_of(names)
        if inner.exact is Exact.ROUGH and name not in ("abs", "sqrt", "deg", "rad"):
            name = "abs"  # others may enlarge what differs
        exact = min(MATHS[name], inner.exact)
        if name == "round" and self._chance(0.5):
            return Made(
                f"round({inner.text}, {self._one_of(('5', '0.25', '2'))})", exact, inner.key
            )
        return Made(f"{name}({inner.text})", exact, inner.key)

    def _windowed(self, place: _Place) -> Made:
        if self._chance(0.35):
            window = self._window(place.below(), counter=True)
            return Made(f"{self._one_of(COUNTERS)}({window.text})", Exact.SAME, window.key)
        window = self._window(place.below())
        if self._new and self._chance(0.3):
            return replace(window, text=f"{self._one_of(NEW_WINDOWS)}({window.text})")
        roll = self._random.random()
        if roll < 0.1:
            quantile = self._one_of(("0", "0.5", "0.9", "1", "0.33", "-1", "2"))
            return Made(f"quantile_over_time({quantile}, {window.text})", Exact.ROUGH, window.key)
        if window.exact is Exact.SUMMABLE and roll < 0.15:
            ahead = self._one_of(("60", "3600", "-600"))
            return Made(f"predict_linear({window.text}, {ahead})", Exact.ROUGH, window.key)
        if window.exact > Exact.ROUGH and roll < 0.2:
            factors = f"0.{self._random.randrange(1, 10)}, 0.{self._random.randrange(1, 10)}"
            text = f"double_exponential_smoothing({window.text}, {factors})"
            return Made(text, Exact.ROUGH, window.key)
        names = [n for n, (_, least) in WINDOWS.items() if window.exact >= least]
        name = self._one_of(names)
        return Made(
            f"{name}({window.text})", min(WINDOWS[name][0], self._over(name, window)), window.key
        )

    def _over(self, name: str, window: Made) -> Exact:
        counts = ("count_over_time", "present_over_time", "changes", "resets")
        return Exact.SUMMABLE if name in counts else window.exact

    def _dated(self, place: _Place) -> Made:
        name = self._one_of(DATES)
        if self._chance(0.2):
            return Made(f"{name}()", Exact.SUMMABLE)
        zone = self._one_of(("", '{zone="now"}', '{zone="old"}', '{zone=~"leap|old"}'))
        add = self._one_of(("", " + 86400 * 40", " * 1.5"))
        return Made(f"{name}(clock_seconds{zone}{add})", Exact.SUMMABLE, frozenset({"zone"}))

    def _labelled(self, place: _Place) -> Made:
        inner = self.vector(place.below())
        source = self._one_of((*sorted(inner.key), "job", "nowhere"))
        roll = self._random.random()
        if roll < 0.4:
            text = f'label_join({inner.text}, "joined", "-", "{source}", "instance")'
        elif roll < 0.8:
            pattern, to = self._one_of(
                (("(.*)", "x-$1"), ("(.).*", "${1}y"), ("a", "b"), ("", "empty"), ("(.+)", "$1$1"))
            )
            text = f'label_replace({inner.text}, "made", "{to}", "{source}", "{pattern}")'
        else:
            text = f'label_replace({inner.text}, "{source}", "", "{source}", "(.*)x")'
        return replace(inner, text=text, distinct=False)

    def _quantile_of_buckets(self, place: _Place) -> Made:
        quantile = self._one_of(("0.5", "0.9", "0.99", "0", "1", "-1", "1.5", "NaN"))
        buckets, exact = self._one_of(
            (
                ("latency_seconds_bucket", Exact.SAME),
                ("sum by (le) (latency_seconds_bucket)", Exact.SAME),
                (f"rate(latency_seconds_bucket[{self._one_of(RANGES)}])", Exact.SAME),
                ('latency_seconds_bucket{le!="0.5"} > 50', Exact.SAME),
            )
        )
        key = frozenset[str]() if "sum" in buckets else frozenset({"job"})
        if self._new and self._chance(0.5):
            return Made(f"histogram_fraction(0.2, {quantile}, {buckets})", exact, key)
        return Made(f"histogram_quantile({quantile}, {buckets})", exact, key)

    def _absent(self, place: _Place) -> Made:
        if self._chance(0.5):
            window = self._window(place.below())
            return Made(f"absent_over_time({window.text})", Exact.SUMMABLE)
        selected = self._one_of(
            ('nothing{job="x",a=~"b"}', 'late{job="api"}', "flapping", self.vector(place).text)
        )
        return Made(f"absent({selected})", Exact.SUMMABLE)

    def _odd(self, place: _Place) -> Made:
        """Functions of their own kind."""
        roll = self._random.random()
        if roll < 0.25:
            inner = self._selected(place)
            return Made(f"timestamp({inner.text})", Exact.SAME, inner.key)
        if roll < 0.35:
            inner = self.vector(place.below())
            return Made(f"timestamp({inner.text} + 0)" if inner.exact else "vector(1)", Exact.SAME)
        if roll < 0.6:
            scalar = self.scalar(place.below())
            return Made(f"vector({scalar.text})", scalar.exact)
        inner = self.vector(place.below())
        if roll < 0.75:
            return replace(inner, text=f"-{self._operand(inner)}", distinct=False)
        bounds = [self._one_of(NUMBERS) for _ in range(2)]
        if self._chance(0.8):
            bounds.sort(key=float)
        name = self._one_of(("clamp", "clamp_min", "clamp_max"))
        arguments = ", ".join(bounds if name == "clamp" else bounds[:1])
        return replace(inner, text=f"{name}({inner.text}, {arguments})", distinct=False)

    # Operators.

    def _with_scalar(self, place: _Place) -> Made:
        inner, scalar = self.vector(place.below()), self.scalar(place.below())
        exact = min(inner.exact, scalar.exact)
        pair = [self._operand(inner), scalar.text]
        turned = self._chance(0.3)
        if turned:
            pair.reverse()
        if exact > Exact.ROUGH and self._chance(0.4):
            op = self._one_of(COMPARISONS)
            if self._chance(0.4):
                return Made(f"{pair[0]} {op} bool {pair[1]}", Exact.SUMMABLE, inner.key)
            return Made(f"{pair[0]} {op} {pair[1]}", inner.exact, inner.key, inner.distinct)
        op, exact = self._operator(inner.exact, scalar.exact)
        pair[1 if turned else 0] = self._nameless(op, pair[1 if turned else 0])
        return Made(f"{pair[0]} {op} {pair[1]}", exact, inner.key)

    def _operator(self, left: Exact, right: Exact) -> tuple[str, Exact]:
        """An arithmetic operator and how exact its result is."""
        least = min(left, right)
        if least is Exact.ROUGH:
            return self._one_of(("*", "/")), Exact.ROUGH
        op = self._one_of(("+", "-", "*", "/", "%", "^", "atan2"), (4, 4, 3, 3, 2, 1, 1))
        if op in ("^", "atan2"):
            return op, Exact.ROUGH
        return op, least if op in "+-" else Exact.SAME

    def _one_to_one(self, place: _Place) -> Made:
        """Two vectors whose series are told apart by the same labels."""
        left = self.vector(place.below())
        right = self._like(left, place.below())
        if right is None:
            return left
        by = ",".join(sorted(left.key))
        matching = self._one_of((f" on({by})", f" on({by})", " ignoring(nowhere)", ""))
        if self._new and self._chance(0.3):
            matching += self._one_of((" fill(1)", " fill_left(2)", " fill_right(3)"))
        return self._binary(left, right, matching, "", left.key)

    def _like(self, left: Made, place: _Place) -> Made | None:
        """A vector with the same key."""
        for _ in range(6):
            right = self.vector(place)
            if right.key == left.key:
                return right
        inner = self.vector(place)
        if left.key <= inner.key:
            by = ", ".join(sorted(left.key))
            return Made(f"max by ({by}) ({inner.text})", inner.exact, left.key)
        return None

    def _grouped(self, place: _Place) -> Made:
        """Many series on one side for one on the other."""
        many = self.vector(place.below())
        if not many.key:
            return many
        few = frozenset(
            self._random.sample(sorted(many.key), self._random.randrange(len(many.key)))
        )
        roll = self._random.random()
        inner = self.vector(place.below())
        if "job" in many.key and roll < 0.3:
            few, one = frozenset({"job"}), Made("build_info", Exact.SUMMABLE, frozenset({"job"}))
            include = "version"
        else:
            if not few <= inner.key:
                return many
            by = ", ".join(sorted(few))
            one = Made(f"min by ({by}) ({inner.text})", inner.exact, few)
            include = self._one_of(("", "", "nowhere"))
        on = f" on({','.join(sorted(few))})"
        if self._chance(0.5):
            return self._binary(many, one, on, f" group_left({include})", many.key)
        return self._binary(one, many, on, f" group_right({include})", many.key)

    def _binary(
        self, left: Made, right: Made, matching: str, group: str, key: frozenset[str]
    ) -> Made:
        a, b = self._operand(left), self._operand(right)
        if min(left.exact, right.exact) > Exact.ROUGH and self._chance(0.4):
            op = self._one_of(COMPARISONS)
            if self._chance(0.4):
                return Made(f"{a} {op} bool{matching}{group} {b}", Exact.SUMMABLE, key)
            return Made(f"{a} {op}{matching}{group} {b}", left.exact, key)
        op, exact = self._operator(left.exact, right.exact)
        a, b = self._nameless(op, a), self._nameless(op, b)
        return Made(f"{a} {op}{matching}{group} {b}", exact, key)

    def _set(self, place: _Place) -> Made:
        left, right = self.vector(place.below()), self.vector(place.below())
        op = self._one_of(("and", "or", "unless"))
        common = ",".join(sorted(left.key & right.key))
        matching = self._one_of(("", f" on({common})", f" ignoring({common})", " on()"))
        text = f"{self._operand(left)} {op}{matching} {self._operand(right)}"
        exact = min(left.exact, right.exact) if op == "or" else left.exact
        key = left.key | right.key if op == "or" else left.key
        return Made(text, exact, key, left.distinct and op != "or")

    def _anyhow(self, place: _Place) -> Made:
        """Two vectors that may not match, with or without grouping: often an error."""
        left, right = self._selected(place), self._selected(place)
        matching = self._one_of(("", " on(job)", " ignoring(instance)", " on()"))
        group = self._one_of(("", "", " group_left()", " group_right(code)")) if matching else ""
        return self._binary(left, right, matching, group, left.key)

    # Aggregations.

    def _aggregated(self, place: _Place) -> Made:
        inner = self.vector(place.below())
        by, key = self._grouping(inner)
        if self._new and self._chance(0.3):
            some = self._one_of(("limitk", "limit_ratio"))
            number = self._one_of(("1", "2", "3") if some == "limitk" else ("0.3", "-0.6", "1"))
            return replace(inner, text=f"{some}{by} ({number}, {inner.text})")
        if self._chance(0.1):
            quantile = self._one_of(("0", "0.5", "0.9", "1", "0.25", "-1", "2", "NaN"))
            return Made(f"quantile{by} ({quantile}, {inner.text})", Exact.ROUGH, key)
        if inner.exact > Exact.ROUGH and "value" not in inner.key and self._chance(0.07):
            return Made(
                f'count_values{by} ("value", {inner.text})', Exact.SUMMABLE, key | {"value"}
            )
        name = self._one_of([n for n, (_, x) in AGGREGATIONS.items() if inner.exact >= x])
        exact = AGGREGATIONS[name][0]
        if name in ("min", "max"):
            exact = inner.exact
        return Made(f"{name}{by} ({inner.text})", exact, key)

    def _ranked(self, place: _Place) -> Made:
        inner = self.vector(place.below())
        for _ in range(5):
            if inner.distinct:
                break
            inner = self._selected(place)
        if not inner.distinct:
            return inner
        by, _ = self._grouping(inner)
        number = self._one_of(("1", "2", "3", "5", "0", "-1", "2.9", "100"))
        return replace(
            inner, text=f"{self._one_of(('topk', 'bottomk'))}{by} ({number}, {inner.text})"
        )

    def _grouping(self, inner: Made) -> tuple[str, frozenset[str]]:
        labels = sorted(inner.key)
        some = frozenset(self._random.sample(labels, self._random.randrange(len(labels) + 1)))
        roll = self._random.random()
        if roll < 0.25:
            return "", frozenset()
        if roll < 0.65:
            return f" by ({', '.join(sorted(some))})", some
        if roll < 0.72:
            return f" by ({', '.join([*sorted(some), 'nowhere'])})", some
        return f" without ({', '.join(sorted(some))})", inner.key - some

    def _sorted(self, place: _Place) -> Made:
        inner = self.vector(place.below())
        name = self._one_of(("sort", "sort_desc"))
        return replace(inner, text=f"{name}({inner.text})", ordered=inner.exact > Exact.ROUGH)

    # What all need.

    def _operand(self, made: Made) -> str:
        """In brackets if it might be split by an operator next to it."""
        return f"({made.text})" if " " in made.text else made.text

    def _nameless(self, op: str, operand: str) -> str:
        """Prometheus before 3 forgets to take the name away from what `atan2` gives."""
        return f"(-{operand})" if op == "atan2" else operand

    def _bracketed(self, made: Made) -> Made:
        return replace(made, text=f"({made.text})") if self._chance(0.03) else made

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _one_of(self, things: Sequence[T], weights: Sequence[int] | None = None) -> T:
        return self._random.choices(things, weights)[0]
