// The image of the MSI that is shown: of one row of levels in a palette, or of three modes as colours.
"use strict";

placing.MsiImage = class {
  constructor({ msi, colours }, levels) {
    Object.assign(this, { images: msi.images, colours, levels, canvas: document.createElement("canvas") });
    [this.canvas.width, this.canvas.height] = msi.size.map((n) => Math.ceil(n / msi.step));
  }

  // of the ion of the nearest m/z, as text; null where there is none
  nearest(mz) {
    const ions = this.images.map((image, i) => ({ ...image, i })).filter((o) => o.kind === "ion");
    if (!ions.length || !Number.isFinite(mz)) return null;
    return String(ions.reduce((a, b) => (Math.abs(b.mz - mz) < Math.abs(a.mz - mz) ? b : a)).i);
  }

  row(k) {
    const n = this.canvas.width * this.canvas.height;
    return this.levels.subarray(k * n, (k + 1) * n);
  }

  // draws it and says what it is
  show(value, colours) {
    const context = this.canvas.getContext("2d"), { width, height } = this.canvas;
    const pixels = context.createImageData(width, height);
    const modes = this.images.flatMap((image, k) => (image.kind === "mode" ? [k] : []));
    if (value === "modes") this.mixed(pixels.data, modes.map((k) => this.row(k)));
    else this.single(pixels.data, this.row(Number(value)), this.colours[colours]);
    context.putImageData(pixels, 0, 0);
    return value === "modes" ? "three modes as colours" : this.images[Number(value)].label;
  }

  mixed(data, [red, green, blue]) {
    red.forEach((level, i) => {
      if (level !== 255) data.set([level, green[i], blue[i], 255], 4 * i);  // else not measured
    });
  }

  single(data, levels, colours) {
    const palette = colours.map((c) => parseInt(c.slice(1, 7), 16)), [low, high] = this.spread(levels);
    levels.forEach((level, i) => {
      if (level === 255) return;
      const k = Math.min(255, Math.max(0, Math.round(255 * (level - low) / (high - low))));
      data.set([palette[k] >> 16, (palette[k] >> 8) & 255, palette[k] & 255, 255], 4 * i);
    });
  }

  // levels that all but half a percent of the pixels lie between, at either end
  spread(levels) {
    const counts = new Array(256).fill(0);
    for (const level of levels) counts[level]++;
    const known = levels.length - counts[255];
    let [low, high, below] = [0, 254, 0];
    for (let k = 0, seen = 0; k < 255; k++) {
      seen += counts[k];
      if (seen <= 0.005 * known) low = k;
      if (below < 0.995 * known) high = k;
      below = seen;
    }
    return high > low ? [low, high] : [low, low + 1];
  }
};
