// Undoes packing.py: text to bytes, and bytes to arrays by name.
"use strict";

window.msiscale = {
  unpacked: async (text) => {
    if (typeof DecompressionStream === "undefined") {
      throw new Error("this browser is too old: it has no DecompressionStream");
    }
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  },

  arrays: async ({ arrays, data }) => {
    const kinds = {
      uint8: Uint8Array, int16: Int16Array, uint32: Uint32Array,
      float32: Float32Array, float64: Float64Array,
    };
    const buffer = await msiscale.unpacked(data), found = {};
    for (const [name, dtype, shape, offset] of arrays) {
      const n = shape.reduce((a, b) => a * b, 1);
      if (dtype === "int16") {  // all first bytes, then all second ones
        const bytes = new Uint8Array(buffer, offset, 2 * n), values = new Int16Array(n);
        for (let i = 0; i < n; i++) values[i] = bytes[i] | (bytes[n + i] << 8);
        found[name] = values;
      } else {
        found[name] = new kinds[dtype](buffer, offset, n);
      }
    }
    return found;
  },
};
