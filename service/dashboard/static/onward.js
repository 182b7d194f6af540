// Where in a page a link pointed to is known only here: take it along.
(() => {
  "use strict";
  const link = document.getElementById("onward");
  if (link) {
    const there = link.getAttribute("href");
    // To the very same address a browser would only scroll; an empty query makes it ask again.
    const again = there === location.pathname + location.search && !there.includes("?");
    location.replace(there + (again ? "?" : "") + location.hash);
  }
  const next = document.getElementById("next");
  if (next && !next.value.includes("#")) next.value += location.hash;
})();
