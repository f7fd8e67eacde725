// Figures and tables to keep: PNG, SVG and CSV of what is shown; and the page on paper.
"use strict";

(() => {
  const NONE = 255, WIDTH = 480, GAP = 16, LINE = 22;  // pixels: of a tile, between them, of a line of text
  const $$ = (where, selector) => [...where.querySelectorAll(selector)];
  const SVG = "http://www.w3.org/2000/svg";
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const lines = new Map();  // figure -> its buttons
  const extra = new Map();  // figure -> how others make what is kept of it, and printed

  const quoted = (value) => {
    const text = String(value ?? "");
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (columns, rows) => [columns, ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";

  const keep = (name, what, ending) => {
    const link = document.createElement("a");
    const blob = what instanceof Blob ? what : new Blob([what], { type: ending === "svg" ? "image/svg+xml" : "text/csv" });
    link.href = URL.createObjectURL(blob);
    link.download = `${name.replaceAll(/[^\w.-]+/g, "_")}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };
  const asPng = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));

  const canvasOf = (width, height) => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.fillStyle = style("--ground");
    context.fillRect(0, 0, width, height);
    return [canvas, context];
  };

  // ---- tiles: pictures side by side, outlines over them

  const parts = (figure) => $$(figure, ".tile").map((tile) => {
    const image = tile.querySelector("img"), use = tile.querySelector("use");
    const path = use && document.getElementById(use.getAttribute("href").slice(1));
    return { image, path: path?.getAttribute("d") ?? "", words: tile.querySelector(".under").innerText.trim() };
  }).filter((part) => part.image);

  const sizes = (figure) => {
    const css = getComputedStyle(figure);
    const [w, h] = ["--w", "--h"].map((name) => Number(css.getPropertyValue(name)));
    return { w, h, height: Math.round((WIDTH * h) / w) };
  };

  const tilesSvg = (figure) => {
    const { w, h, height } = sizes(figure), found = parts(figure), root = document.createElementNS(SVG, "svg");
    const total = found.length * (WIDTH + GAP) - GAP;
    const add = (name, words, text = "") => {
      const made = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(words)) made.setAttribute(key, value);
      made.textContent = text;
      root.append(made);
    };
    root.setAttribute("xmlns", SVG);
    root.setAttribute("viewBox", `0 0 ${total} ${height + 2 * LINE}`);
    add("rect", { width: "100%", height: "100%", fill: style("--ground") });
    add("text", { x: 0, y: 16, fill: style("--ink"), "font-family": "sans-serif", "font-size": 15, "font-weight": "bold" }, figure.dataset.figure);
    found.forEach(({ image, path, words }, i) => {
      const x = i * (WIDTH + GAP);
      add("image", { x, y: LINE, width: WIDTH, height, href: image.src, preserveAspectRatio: "none", style: image.matches(".pixels") ? "image-rendering: pixelated" : "" });
      for (const [colour, wide] of path ? [["#fff", 3.2], ["#000", 1.4]] : []) {
        add("path", { d: path, transform: `translate(${x} ${LINE}) scale(${WIDTH / w} ${height / h})`, fill: "none", stroke: colour, "stroke-width": wide, "vector-effect": "non-scaling-stroke" });
      }
      add("text", { x, y: height + LINE + 17, fill: style("--ink"), "font-family": "sans-serif", "font-size": 15 }, words);
    });
    return new XMLSerializer().serializeToString(root);
  };

  const tilesPng = async (figure) => {
    const { w, h, height } = sizes(figure), found = parts(figure);
    const [canvas, context] = canvasOf(found.length * (WIDTH + GAP) - GAP, height + 2 * LINE);
    context.fillStyle = style("--ink");
    context.font = "bold 15px sans-serif";
    context.fillText(figure.dataset.figure, 0, 16);
    context.font = "15px sans-serif";
    for (const [i, { image, path, words }] of found.entries()) {
      const x = i * (WIDTH + GAP);
      await image.decode();
      context.imageSmoothingEnabled = !image.matches(".pixels");
      context.drawImage(image, x, LINE, WIDTH, height);
      context.save();
      context.translate(x, LINE);
      context.scale(WIDTH / w, height / h);
      for (const [colour, wide] of path ? [["#fff", 3.2], ["#000", 1.4]] : []) {
        context.strokeStyle = colour;
        context.lineWidth = (wide * w) / WIDTH;
        context.stroke(new Path2D(path));
      }
      context.restore();
      context.fillText(words, x, height + LINE + 17, WIDTH);
    }
    return canvas;
  };

  // the level of each pixel, from its colour
  const levels = async (image) => {
    const palettes = JSON.parse(document.getElementById("palettes").textContent);
    const colours = palettes[image.dataset.palette];
    const of = new Map(colours.map((c, i) => [parseInt(c.slice(1), 16), i]));
    await image.decode();
    const { naturalWidth: width, naturalHeight: height } = image;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const [low, high] = [Number(image.dataset.low), Number(image.dataset.high)];
    return { width, height, values: Array.from({ length: width * height }, (_, i) => {
      if (data[4 * i + 3] < NONE) return "";
      const level = of.get((data[4 * i] << 16) | (data[4 * i + 1] << 8) | data[4 * i + 2]);
      return level === undefined ? "" : Number((low + (level / (colours.length - 1)) * (high - low)).toPrecision(6));
    }) };
  };

  const tilesCsv = async (figure) => {
    const maps = $$(figure, ".tile").filter((tile) => tile.querySelector(".pixels"));
    const read = await Promise.all(maps.map((tile) => levels(tile.querySelector(".pixels"))));
    const { width, height } = read[0], rows = [];
    for (let i = 0; i < width * height; i++) {
      const values = read.map((one) => one.values[i]);
      if (values.some((v) => v !== "")) rows.push([Math.floor(i / width), i % width, ...values]);
    }
    return csv(["row", "column", ...maps.map((tile) => tile.dataset.title)], rows);
  };

  // ---- charts that the page holds as SVG

  const PAINT = ["fill", "stroke", "stroke-width", "fill-opacity", "stroke-opacity", "font-family", "font-size"];
  const chartSvg = (figure) => {
    const chart = figure.querySelector("svg.chart"), copy = chart.cloneNode(true);
    const originals = [chart, ...$$(chart, "*")];
    [copy, ...$$(copy, "*")].forEach((made, i) => {
      const css = getComputedStyle(originals[i]);
      for (const name of PAINT) made.setAttribute(name, css.getPropertyValue(name));
    });
    copy.setAttribute("xmlns", SVG);
    const { width, height } = chart.viewBox.baseVal;
    copy.setAttribute("width", 2 * width);
    copy.setAttribute("height", 2 * height);
    const ground = document.createElementNS(SVG, "rect");
    for (const [k, v] of Object.entries({ width: "100%", height: "100%", fill: style("--ground") })) ground.setAttribute(k, v);
    copy.prepend(ground);
    return new XMLSerializer().serializeToString(copy);
  };

  const drawnImage = async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    const [canvas, context] = canvasOf(image.naturalWidth, image.naturalHeight);
    context.drawImage(image, 0, 0);
    return canvas;
  };
  const chartPng = (figure) =>
    drawnImage(`data:image/svg+xml;charset=utf-8,${encodeURIComponent(chartSvg(figure))}`);

  const held = (figure) => figure.querySelector(":scope > script.data");
  const heldCsv = (figure) => {
    const { columns, rows } = JSON.parse(held(figure).textContent);
    return csv(columns, rows);
  };

  // ---- which figure can be kept as what

  const ways = (figure) => {
    const more = extra.get(figure);
    if (more) return more;
    if (figure.querySelector("svg.chart")) return { png: chartPng, svg: chartSvg, csv: heldCsv };
    if (figure.querySelector(".tile")) {
      return { png: tilesPng, svg: tilesSvg, ...(figure.querySelector(".pixels") ? { csv: tilesCsv } : {}) };
    }
    const image = figure.querySelector(":scope > img");
    if (!image) return {};
    return { png: () => drawnImage(image.src), ...(held(figure) ? { csv: heldCsv } : {}) };
  };

  const save = async (figure, kind) => {
    const made = await ways(figure)[kind](figure);
    keep(figure.dataset.figure, kind === "png" ? await asPng(made) : made, kind);
  };

  const offer = (figure) => {
    lines.get(figure)?.remove();
    const kinds = ["png", "svg", "csv"].filter((kind) => kind in ways(figure));
    if (!kinds.length) return;
    const line = document.createElement("div");
    line.className = "save";
    line.setAttribute("role", "group");
    line.setAttribute("aria-label", `save ${figure.dataset.figure}`);
    for (const kind of kinds) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind.toUpperCase();
      button.dataset.kind = kind;
      button.setAttribute("aria-label", `${kind.toUpperCase()} of ${figure.dataset.figure}`);
      line.append(button);
    }
    lines.set(figure, line);
    (figure.closest(".row")?.querySelector(".who") ?? figure).append(line);
    line.addEventListener("click", ({ target }) => {
      if (target.dataset.kind) save(figure, target.dataset.kind);
    });
  };

  // rows of a table that are shown
  const tables = () => {
    for (const table of $$(document, ".scroll > table")) {
      if (!table.tHead || table.tBodies[0].rows.length < 2) continue;
      const button = document.createElement("button");
      const line = document.createElement("div");
      const name = table.getAttribute("aria-label");
      line.className = "save";
      button.type = "button";
      button.textContent = "CSV";
      button.setAttribute("aria-label", `CSV of the table: ${name}`);
      button.addEventListener("click", () => {
        const words = (row) => [...row.cells].map((cell) => cell.textContent.trim());
        const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
        keep(name.slice(0, 60), csv(words(table.tHead.rows[0]), rows.map(words)), "csv");
      });
      line.append(button);
      table.parentElement.after(line);
    }
  };

  // ---- on paper: pictures that are not there yet, and drawn plots as pictures

  window.addEventListener("beforeprint", () => {
    for (const image of $$(document, "img[loading=lazy]")) image.loading = "eager";
    for (const { printed } of extra.values()) {
      for (const [host, canvas] of printed()) {
        const image = new Image();
        image.className = "printed";
        image.alt = host.getAttribute("aria-label") ?? "";
        image.src = canvas.toDataURL("image/png");
        host.classList.add("replaced");
        host.after(image);
      }
    }
  });
  window.addEventListener("afterprint", () => {
    for (const image of $$(document, ".printed")) image.remove();
    for (const plot of $$(document, ".replaced")) plot.classList.remove("replaced");
  });

  for (const figure of $$(document, "[data-figure]")) offer(figure);
  tables();
  Object.assign(window.msiscale ?? (window.msiscale = {}), {
    csv, canvasOf,
    keeping(figure, how) { extra.set(figure, how); offer(figure); },
  });
})();
