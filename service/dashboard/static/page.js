// Times in the viewer's zone, refreshing in place, and what happens after a button was pressed.
(() => {
  "use strict";
  const REFRESH_MS = 5000;
  const HIDE_MS = 6000;

  const format = (options) => new Intl.DateTimeFormat(undefined, { hourCycle: "h23", ...options });
  const HOURS = { hour: "2-digit", minute: "2-digit" };
  const FORMS = {
    time: format(HOURS),
    seconds: format({ ...HOURS, second: "2-digit" }),
    day: format({ weekday: "short", day: "numeric", month: "short", ...HOURS }),
    dayless: format({ weekday: "short", day: "numeric", month: "short" }),
  };

  // The server's clock decides what "today" is: a demo may tell a story of last year.
  const now = () => Number(document.getElementById("clock")?.dataset.now) || Date.now();

  function localise(root) {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(element.dateTime);
      const form = FORMS[element.dataset.form] ? element.dataset.form : "time";
      const today = moment.toDateString() === new Date(now()).toDateString();
      element.textContent =
        today || form === "day" ? FORMS[today && form === "day" ? "time" : form].format(moment)
          : `${FORMS.dayless.format(moment)}, ${FORMS[form].format(moment)}`;
      element.title = moment.toLocaleString();
    }
  }

  let hiding = 0;
  function say(text, wrong) {
    const place = document.getElementById("said");
    place.textContent = text;
    place.classList.toggle("wrong", Boolean(wrong));
    place.hidden = false;
    clearTimeout(hiding);
    if (!wrong) hiding = setTimeout(() => { place.hidden = true; }, HIDE_MS);
  }

  function connected(isConnected) {
    const place = document.getElementById("live");
    if (!place) return;
    place.classList.toggle("lost", !isConnected);
    place.querySelector("span").textContent = isConnected ? "live" : "no connection";
  }

  function reason(request) {
    try {
      return JSON.parse(request.responseText).detail;
    } catch {
      return request.status ? `The service answered ${request.status}.` : "The service does not answer.";
    }
  }

  function start() {
    localise(document);
    if (/\?(#|$)/.test(location.href)) {
      history.replaceState(null, "", location.pathname + location.hash);
    }
    const part = document.getElementById("part");
    if (!part || !window.htmx) return;

    const refresh = () => window.htmx.trigger(part, "refresh");
    // Whoever writes into a form of the page is not to lose the place.
    const writing = () => document.hasFocus() && part.querySelector("form:focus-within");
    setInterval(() => { if (!document.hidden && !writing()) refresh(); }, REFRESH_MS);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

    // The API takes JSON: what `data-body` says, with the fields of the form.
    window.htmx.defineExtension("json", {
      onEvent(name, event) {
        if (name === "htmx:configRequest") event.detail.headers["Content-Type"] = "application/json";
      },
      encodeParameters(xhr, parameters, element) {
        const body = JSON.parse(element.dataset.body || "{}");
        return JSON.stringify({ ...body, ...Object.fromEntries(parameters) });
      },
    });

    let open = [];
    document.body.addEventListener("htmx:beforeSwap", () => {
      open = [...part.querySelectorAll("details[open]")].map((element) => element.id);
    });
    document.body.addEventListener("htmx:afterSwap", () => {
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      localise(document);
      window.offbeatCharts?.draw(document);
    });
    document.body.addEventListener("htmx:afterRequest", (event) => {
      const { elt, xhr, successful } = event.detail;
      if (elt === part) {
        connected(successful);
      } else if (elt.dataset.then === "refresh") {
        say(successful ? elt.dataset.said : reason(xhr), !successful);
        refresh();
      }
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
