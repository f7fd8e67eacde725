// Unpacks the library that draws and starts it; the page's policy lets only scripts of known
// digests run, and this is one of them.
"use strict";

// after the first paint, or soon where nothing is painted
const painted = () => new Promise((done) => {
  requestAnimationFrame(() => setTimeout(done));
  setTimeout(done, 300);
});

msiscale.ready = (async () => {
  await painted();
  const packed = document.getElementById("library").textContent;
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(await msiscale.unpacked(packed));
  document.head.append(script);
  if (typeof Bokeh === "undefined") {
    throw new Error("the library that draws did not start");
  }
})();
