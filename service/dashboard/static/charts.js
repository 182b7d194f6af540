// Draws every [data-chart] into the element that it is for, and again when its data change.
(() => {
  "use strict";
  const charts = new Map();
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const FONT = '12px system-ui, "Segoe UI", Inter, sans-serif';
  const ROOM_FOR_NOW = 34;

  const time = (options) => new Intl.DateTimeFormat(undefined, { hourCycle: "h23", ...options });
  const CLOCK = time({ hour: "2-digit", minute: "2-digit" });
  const WEEKDAY = time({ weekday: "short" });
  const DATE = time({ day: "numeric", month: "short" });
  const MOMENT = time({ weekday: "short", hour: "2-digit", minute: "2-digit" });

  // Figures as the rest of the page writes them, short.
  function figure(value, unit, digits) {
    if (value === null || value === undefined) return "–";
    let scaled = unit === "ratio" ? value * 100 : value;
    let suffix = unit === "ratio" || unit === "%" ? "\u00a0%" : unit === "B" ? "B" : unit ? `\u00a0${unit}` : "";
    const size = Math.abs(scaled);
    for (const [step, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= step && !(digits && step === 1e3)) {
        scaled /= step;
        suffix = unit === "B" ? `\u00a0${letter}B` : letter + suffix;
        break;
      }
    }
    if (suffix === "B") suffix = "\u00a0B";
    const places = digits ?? 3;
    const text = scaled.toLocaleString("en", { maximumSignificantDigits: Math.max(places, 1) });
    return text.replace("-", "−") + suffix;
  }

  // One row of times for the past and the forecast, the forecast tied to the end of the band.
  function columns(c) {
    const past = c.t.length;
    const first = c.forecast_t.findIndex((t) => past === 0 || t > c.t[past - 1]);
    const ahead = first < 0 ? [] : c.forecast_t.slice(first);
    const from = Math.max(first, 0);
    const x = [...c.t, ...ahead].map((t) => t / 1000);
    const none = (n) => new Array(n).fill(null);
    const behind = (values) => [...values, ...none(ahead.length)];
    const before = (values, joint) => {
      const row = [...none(past), ...values.slice(from)];
      if (past && ahead.length && joint !== null && joint !== undefined) row[past - 1] = joint;
      return row;
    };
    // The forecast goes on from the expectation or, where it follows the values, from the value.
    const end = past - 1;
    const [expected, value, next] = [c.expected[end], c.v[end], ahead.length ? c.forecast[from] : null];
    const tied = Boolean(past) && ahead.length > 0 && expected !== null && next !== null
      && (value === null || Math.abs(expected - next) <= Math.abs(value - next));
    const joint = tied ? expected : value;
    return [
      x,
      behind(c.upper), behind(c.lower),
      before(c.forecast_upper, tied ? c.upper[end] : null),
      before(c.forecast_lower, tied ? c.lower[end] : null),
      before(c.forecast, joint),
      behind(c.v),
    ];
  }

  // Stretches to shade: since the alert began, else wherever unusual points lie close together.
  function spans(c) {
    if (!c.t.length) return [];
    const end = c.t[c.t.length - 1];
    if (c.since !== null) return [[Math.max(c.since, c.t[0]), end]];
    const usual = c.t.length > 1 ? (end - c.t[0]) / (c.t.length - 1) : 60000;
    const found = [];
    for (const i of c.anomalies) {
      const last = found[found.length - 1];
      if (last && c.t[i] - last[1] <= 5 * usual) last[1] = c.t[i];
      else found.push([c.t[i], c.t[i]]);
    }
    return found.map(([a, b]) => [a - usual / 2, b + usual / 2]);
  }

  function range(c) {
    let low = Infinity;
    let high = -Infinity;
    const rows = [c.v, c.lower, c.upper, c.forecast, c.forecast_lower, c.forecast_upper];
    for (const row of rows) {
      for (const value of row) {
        if (value === null) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (low > high) return [0, 1];
    // A limit is shown where it is near; far away it would flatten everything else.
    if (c.threshold !== null) {
      const room = Math.max(high - low, Math.abs(high) * 0.1);
      if (c.threshold > high && c.threshold - high < room) high = c.threshold;
      if (c.threshold < low && low - c.threshold < room) low = c.threshold;
    }
    const pad = (high - low || Math.abs(high) * 0.1 || 1) * 0.08;
    return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
  }

  function shade(u, c) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = css("--bad-span");
    for (const [from, to] of spans(c)) {
      const a = u.valToPos(from / 1000, "x", true);
      const b = Math.max(u.valToPos(to / 1000, "x", true), a + 2 * devicePixelRatio);
      ctx.fillRect(a, bbox.top, b - a, bbox.height);
    }
    ctx.restore();
  }

  function mark(u, c) {
    const { ctx, bbox } = u;
    const dot = devicePixelRatio;
    ctx.save();
    if (c.threshold !== null) {
      const y = u.valToPos(c.threshold, "y", true);
      if (y >= bbox.top && y <= bbox.top + bbox.height) {
        line(ctx, css("--bad"), [5 * dot, 4 * dot], bbox.left, y, bbox.left + bbox.width, y);
        ctx.fillStyle = css("--bad");
        ctx.font = scaled(FONT);
        ctx.textAlign = "left";
        ctx.textBaseline = "bottom";
        ctx.fillText(`limit ${figure(c.threshold, c.unit)}`, bbox.left + 4 * dot, y - 3 * dot);
      }
    }
    for (const at of c.levels || []) {
      const x = u.valToPos(at / 1000, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      line(ctx, css("--soft"), [6 * dot, 3 * dot], x, bbox.top, x, bbox.top + bbox.height);
      ctx.fillStyle = css("--soft");
      ctx.font = scaled(FONT);
      ctx.textAlign = "left";
      ctx.textBaseline = "top";
      ctx.fillText("new level", x + 4 * dot, bbox.top + 2 * dot);
    }
    const x = u.valToPos(c.now / 1000, "x", true);
    if (x >= bbox.left && x <= bbox.left + bbox.width + 1) {
      line(ctx, css("--soft"), [2 * dot, 3 * dot], x, bbox.top, x, bbox.top + bbox.height);
      ctx.fillStyle = css("--soft");
      ctx.font = scaled(FONT);
      ctx.textAlign = "center";
      ctx.textBaseline = "top";
      ctx.fillText("now", Math.min(x, u.width * dot - 14 * dot), bbox.top + bbox.height + 6 * dot);
    }
    ctx.fillStyle = css("--bad");
    for (const i of c.anomalies) {
      if (c.v[i] === null) continue;
      ctx.beginPath();
      ctx.arc(u.valToPos(c.t[i] / 1000, "x", true), u.valToPos(c.v[i], "y", true), 2.8 * dot, 0, 7);
      ctx.fill();
    }
    ctx.restore();
  }

  function line(ctx, colour, dash, ...[x1, y1, x2, y2]) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash(dash);
    ctx.beginPath();
    ctx.moveTo(x1, y1);
    ctx.lineTo(x2, y2);
    ctx.stroke();
    ctx.setLineDash([]);
  }

  const scaled = (font) => font.replace(/^[\d.]+/, (size) => size * devicePixelRatio);

  function ticks(u, splits, c, step) {
    const here = u.valToPos(c.now / 1000, "x");
    return splits.map((s) => {
      if (s === null || Math.abs(u.valToPos(s, "x") - here) < ROOM_FOR_NOW) return "";
      const moment = new Date(s * 1000);
      if (step >= 86400) return DATE.format(moment);
      const midnight = moment.getHours() === 0 && moment.getMinutes() === 0;
      return midnight ? `${WEEKDAY.format(moment)} ${moment.getDate()}` : CLOCK.format(moment);
    });
  }

  function read(u, state) {
    const place = state.readout;
    if (!place) return;
    const i = u.cursor.idx;
    place.replaceChildren();
    if (i === null || i === undefined || u.cursor.left < 0) return;
    const c = state.data;
    const [x, upper, lower, nextUpper, nextLower, next, v] = u.data;
    place.append(`${MOMENT.format(new Date(x[i] * 1000))}  `);
    const strong = document.createElement("b");
    const isPast = i < c.t.length;
    strong.textContent = isPast ? figure(v[i], c.unit, 5) : figure(next[i], c.unit, 5);
    if (isPast && c.anomalies.includes(i)) strong.className = "bad";
    place.append(strong);
    const low = isPast ? lower[i] : nextLower[i];
    const high = isPast ? upper[i] : nextUpper[i];
    if (!isPast) place.append(" forecast");
    if (low !== null && high !== null && low !== undefined) {
      const range = `${figure(low, c.unit, 5)} to ${figure(high, c.unit, 5)}`;
      place.append(isPast ? `  expected ${range}` : `, ${range}`);
    }
  }

  function make(place, state) {
    const c = () => state.data;
    const quiet = { stroke: "transparent", width: 0, points: { show: false } };
    const wide = place.clientWidth;
    const options = {
      width: wide,
      height: place.clientHeight,
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: (_u, i) => (i > 4 ? 6 : 0), fill: () => css("--accent"), stroke: () => css("--card") } },
      scales: { x: { time: true }, y: { range: () => range(c()) } },
      bands: [
        { series: [1, 2], fill: () => css("--band") },
        { series: [3, 4], fill: () => css("--next-band") },
      ],
      series: [
        {},
        quiet, quiet, quiet, quiet,
        { stroke: () => css("--accent"), width: 1.6, dash: [4, 4], points: { show: false } },
        { stroke: () => css("--accent"), width: 1.6, points: { show: false } },
      ],
      axes: [
        {
          stroke: () => css("--soft"), font: FONT, size: 30, gap: 6, space: 84,
          grid: { show: false }, ticks: { show: false },
          values: (u, splits, _axis, _space, step) => ticks(u, splits, c(), step),
        },
        {
          stroke: () => css("--soft"), font: FONT, size: 54, gap: 8, space: 44,
          grid: { stroke: () => css("--line"), width: 1 }, ticks: { show: false },
          values: (_u, splits) => splits.map((s) => figure(s, c().unit)),
        },
      ],
      hooks: {
        drawClear: [(u) => shade(u, c())],
        draw: [(u) => mark(u, c())],
        setCursor: [(u) => read(u, state)],
      },
    };
    place.replaceChildren();
    state.plot = new window.uPlot(options, columns(c()), place);
    new ResizeObserver(() => {
      if (place.clientWidth && (place.clientWidth !== state.plot.width || place.clientHeight !== state.plot.height)) {
        state.plot.setSize({ width: place.clientWidth, height: place.clientHeight });
      }
    }).observe(place);
  }

  function draw(root) {
    if (!window.uPlot) return;
    for (const source of root.querySelectorAll("[data-chart]")) {
      const place = document.getElementById(source.dataset.for);
      if (!place) continue;
      place.setAttribute("aria-label", source.dataset.about);
      let state = charts.get(place);
      const known = state !== undefined;
      if (!known) charts.set(place, state = {});
      state.data = JSON.parse(source.dataset.chart);
      state.readout = document.getElementById(`readout-${place.id}`);
      if (known) state.plot.setData(columns(state.data));
      else make(place, state);
      if (known) read(state.plot, state);
    }
    for (const place of charts.keys()) {
      if (place.isConnected) continue;
      charts.get(place).plot.destroy();
      charts.delete(place);
    }
  }

  const again = () => { for (const { plot } of charts.values()) plot.redraw(true); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  window.offbeatCharts = { draw };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => draw(document));
  else draw(document);
})();
