// Where in a page a link pointed to is known only here: take it along.
(() => {
  "use strict";
  const link = document.getElementById("onward");
  if (link) location.replace(link.getAttribute("href") + location.hash);
  const next = document.getElementById("next");
  if (next && !next.value.includes("#")) next.value += location.hash;
})();
