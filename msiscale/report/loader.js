// Unpacks the library that draws and starts it; the page's policy lets only scripts of known
// digests run, and this is one of them.
"use strict";

const unpacked = async (text) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
};

// after the first paint, or soon where nothing is painted
const painted = () => new Promise((done) => {
  requestAnimationFrame(() => setTimeout(done));
  setTimeout(done, 300);
});

window.msiscale = {
  unpacked,
  ready: (async () => {
    if (typeof DecompressionStream === "undefined") {
      throw new Error("this browser is too old: it has no DecompressionStream");
    }
    await painted();
    const packed = document.getElementById("library").textContent;
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await unpacked(packed));
    document.head.append(script);
    if (typeof Bokeh === "undefined") {
      throw new Error("the library that draws did not start");
    }
  })(),
};
