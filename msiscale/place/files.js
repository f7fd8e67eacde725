// What is saved and opened again: landmarks, a matrix, outlines.
"use strict";

placing.files = (() => {
  const COLUMNS = ["slide_x", "slide_y", "msi_x", "msi_y"];

  const landmarks = (pairs, [x, y]) => [
    COLUMNS.join(","),
    ...pairs.map(({ slide, msi }) => [slide[0] - x, slide[1] - y, ...msi].join(",")), "",
  ].join("\n");

  const matrix = (m) => `${JSON.stringify({ matrix: [...m, [0, 0, 1]] })}\n`;

  const outlines = (all) => `${JSON.stringify({
    type: "FeatureCollection",
    annotation_origin: [0, 0],  // the corner of level 0, whatever the slide's bounds
    features: all.map(({ name, ring }) => ({
      type: "Feature",
      geometry: { type: "Polygon", coordinates: [[...ring, ring[0]]] },
      properties: { objectType: "annotation", classification: { name } },
    })),
  }, null, 1)}\n`;

  // by its contents; throws with a sentence where it is none of these
  const opened = (text, [x, y]) => {
    if (text.trimStart().startsWith("{") || text.trimStart().startsWith("[")) {
      const found = JSON.parse(text);
      if (found.type === "FeatureCollection") return { outlines: rings(found.features) };
      const rows = found.matrix ?? found;
      const numbers = Array.isArray(rows) && rows.length === 3
        && rows.every((r) => Array.isArray(r) && r.length === 3 && r.every(Number.isFinite));
      if (!numbers || rows[0][0] * rows[1][1] === rows[0][1] * rows[1][0]) {
        throw new Error("it is no 3x3 matrix and no GeoJSON of outlines");
      }
      return { matrix: rows.slice(0, 2) };
    }
    const [head, ...lines] = text.trim().split(/\r?\n/).map((l) => l.split(",").map((c) => c.trim()));
    const at = COLUMNS.map((name) => head.indexOf(name));
    if (at.includes(-1)) throw new Error(`it has no columns ${COLUMNS.join(", ")}`);
    const pairs = lines.map((cells) => at.map((k) => Number(cells[k] || NaN)));
    if (!pairs.flat().every(Number.isFinite)) throw new Error("a landmark is not a number");
    return { pairs: pairs.map(([a, b, c, d]) => ({ slide: [a + x, b + y], msi: [c, d] })) };
  };

  const rings = (features) => features.flatMap(({ geometry, properties }) => {
    const shapes = { Polygon: (c) => [c], MultiPolygon: (c) => c }[geometry?.type];
    const parts = shapes ? shapes(geometry.coordinates) : [];
    if (parts.some((rings) => rings.length > 1)) {
      throw new Error("an outline in it has a hole, which this page cannot draw");
    }
    const name = properties?.classification?.name ?? "Tumor";
    return parts.map(([ring]) => ({ name: String(name), ring: ring.slice(0, -1) }));
  });

  // where the browser can, into a folder that the user chooses; the name it got, null if not saved
  const save = async (name, text, kind, choose) => {
    if (choose) {
      try {
        const accept = { [kind]: [`.${name.split(".").pop()}`] };
        const types = [{ description: name, accept }];
        const handle = await window.showSaveFilePicker({ suggestedName: name, id: "msiscale", types });
        const file = await handle.createWritable();
        await file.write(text);
        await file.close();
        return handle.name;
      } catch (error) {
        if (error.name === "AbortError") return null;
        throw error;
      }
    }
    const link = document.createElement("a"), url = URL.createObjectURL(new Blob([text], { type: kind }));
    Object.assign(link, { href: url, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    return name;
  };

  return { landmarks, matrix, outlines, opened, save };
})();
