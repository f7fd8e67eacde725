// Before the page is drawn: the colours that the reader chose last time.
"use strict";

(() => {
  let kept = "";
  try { kept = localStorage.getItem("msiscale-theme") ?? ""; } catch { /* a browser that keeps nothing */ }
  if (["light", "dark"].includes(kept)) document.documentElement.dataset.theme = kept;
})();
