"use strict";
(() => {
  const element = id => document.getElementById(id);
  const dialog = element("viewer"), about = JSON.parse(element("viewer-about").textContent);
  const canvas = dialog.querySelector("canvas"), pen = canvas.getContext("2d");
  const range = element("viewer-range"), models = element("viewer-models"), windows = element("viewer-windows");
  const layers = [...dialog.querySelectorAll("[data-layer]")], steps = [...dialog.querySelectorAll("[data-step]")];
  const IGNORED = 255, FILL = 0.42, MIXED = 0.68;
  const WINDOWS = { "soft tissue": [-160, 240], lung: [-1350, 150], bone: [-450, 1050], everything: [-1350, 1500] };
  const MISSED = [86, 180, 233], EXTRA = [230, 97, 0], OTHER = [204, 121, 167], RIGHT = [0, 158, 115];
  let shown = null, opened = -1;

  // ---- reading one case -----------------------------------------------------------------------

  const picture = address => new Promise((resolve, reject) => {
    if (!address) return resolve(null);
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("a picture cannot be read"));
    image.src = address;
  });

  const sheet = (width, height) => {
    const made = document.createElement("canvas");
    made.width = width;
    made.height = height;
    return made.getContext("2d", { willReadFrequently: true });
  };

  const read = async place => {
    const about = JSON.parse(element("slides-" + place).textContent);
    const [scan, reference, ...predictions] = await Promise.all([about.scan, about.reference, ...about.predictions].map(picture));
    const [rows, columns] = about.tile;
    // Wide enough for crisp outlines, at the proportions of the body.
    const scale = Math.min(8, Math.max(1, 560 / Math.max(rows, columns * about.size[0] * rows / (about.size[1] * columns))));
    const height = Math.round(rows * scale), width = Math.max(8, Math.round(height * about.size[0] / about.size[1]));
    return { ...about, pictures: { scan, reference, predictions }, rows, columns, width, height,
             small: sheet(columns, rows), large: sheet(width, height) };
  };

  const values = (image, slice) => {
    const { small, rows, columns } = shown;
    small.drawImage(image, 0, slice * rows, columns, rows, 0, 0, columns, rows);
    const pixels = small.getImageData(0, 0, columns, rows).data, found = new Uint8Array(rows * columns);
    for (let n = 0; n < found.length; n++) found[n] = pixels[4 * n];
    return found;
  };

  // ---- drawing one slice ----------------------------------------------------------------------

  // 8 bits -> grey: of CT through Hounsfield units and the window that was chosen, of others as they are.
  const tones = () => {
    const table = new Uint8ClampedArray(256), [units, stored] = about.ct;
    const [low, high] = WINDOWS[windows.querySelector("select").value] || shown.window;
    for (let tone = 0; tone < 256; tone++) {
      let part = 1;
      while (part < stored.length - 1 && tone > stored[part]) part++;
      const along = (tone - stored[part - 1]) / (stored[part] - stored[part - 1]);
      const unit = units[part - 1] + along * (units[part] - units[part - 1]);
      table[tone] = shown.scale === "ct" ? 255 * (unit - low) / (high - low) : tone;
    }
    return table;
  };

  const background = slice => {
    const { large, width, height, rows, columns, pictures } = shown;
    large.fillStyle = "#101418";
    large.fillRect(0, 0, width, height);
    if (pictures.scan) large.drawImage(pictures.scan, 0, slice * shown.stride, columns, rows, 0, 0, width, height);
    const image = large.getImageData(0, 0, width, height);
    if (pictures.scan && shown.scale !== "color") {
      const table = tones(), data = image.data;
      for (let n = 0; n < data.length; n += 4) data[n] = data[n + 1] = data[n + 2] = table[data[n]];
    }
    return image;
  };

  const enlarged = plane => {
    const { rows, columns, width, height } = shown, out = new Uint8Array(width * height);
    const across = Uint32Array.from({ length: width }, (_, x) => Math.floor(x * columns / width));
    for (let y = 0; y < height; y++) {
      const row = Math.floor(y * rows / height) * columns;
      for (let x = 0; x < width; x++) out[y * width + x] = plane[row + across[x]];
    }
    return out;
  };

  const mix = (data, n, color, share) => {
    for (let c = 0; c < 3; c++) data[4 * n + c] += share * (color[c] - data[4 * n + c]);
  };

  const color = value => (about.labels[value - 1] || { color: [255, 255, 255] }).color;

  const fill = (data, plane) => {
    for (let n = 0; n < plane.length; n++) if (plane[n]) mix(data, n, color(plane[n]), FILL);
  };

  const outline = (data, plane) => {
    const { width, height } = shown, thick = Math.max(1, Math.round(width / 300));
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const n = y * width + x, value = plane[n];
      if (!value || value === IGNORED) continue;
      const edge = x < thick || y < thick || x >= width - thick || y >= height - thick
        || plane[n - thick] !== value || plane[n + thick] !== value || plane[n - thick * width] !== value || plane[n + thick * width] !== value;
      if (edge) mix(data, n, color(value), 1);
    }
  };

  const compare = (data, truth, found) => {
    for (let n = 0; n < truth.length; n++) {
      const t = truth[n], f = found[n];
      if (t === IGNORED || !(t || f)) continue;
      mix(data, n, t === f ? RIGHT : !f ? MISSED : !t ? EXTRA : OTHER, t === f ? FILL / 2 : MIXED);
    }
  };

  const draw = () => {
    if (!shown) return;
    const slice = Number(range.value), image = background(slice);
    const truth = values(shown.pictures.reference, slice), found = values(shown.pictures.predictions[model()], slice);
    const on = name => layers.find(layer => layer.dataset.layer === name).getAttribute("aria-pressed") === "true";
    const large = [enlarged(truth), enlarged(found)];
    if (on("difference")) compare(image.data, ...large);
    else if (on("prediction")) fill(image.data, large[1]);
    if (on("reference")) outline(image.data, large[0]);
    pen.putImageData(image, 0, 0);
    say(slice, truth, found, on("difference"));
  };

  const model = () => models.querySelector("select").selectedIndex;

  const say = (slice, truth, found, difference) => {
    const counts = { both: 0, missed: 0, extra: 0, other: 0 };
    truth.forEach((t, n) => {
      const f = found[n];
      if (t === IGNORED || !(t || f)) return;
      counts[t === f ? "both" : !f ? "missed" : !t ? "extra" : "other"]++;
    });
    const number = shown.places[slice] + 1;
    element("viewer-slice").textContent = shown.count === 1 ? "1 of 1" : number + " of " + shown.count + (shown.plane ? ", " + shown.plane : "");
    range.setAttribute("aria-valuetext", "slice " + number + " of " + shown.count);
    const words = counts.both + counts.missed + counts.extra + counts.other
      ? counts.both + " pixels agree, " + counts.missed + " missed, " + counts.extra + " too many" + (counts.other ? ", " + counts.other + " of another label" : "")
      : "nothing is marked on this slice";
    element("viewer-said").textContent = words[0].toUpperCase() + words.slice(1) + ".";
    const key = difference
      ? [["agreement", RIGHT], ["missed", MISSED], ["too many", EXTRA], ["another label", OTHER]]
      : about.labels.map((label, n) => [label.name, label.color, n + 1]).filter(entry => truth.includes(entry[2]) || found.includes(entry[2]));
    element("viewer-key").replaceChildren(...key.map(([name, [r, g, b]]) => {
      const entry = document.createElement("span"), patch = document.createElement("i");
      patch.style.background = "rgb(" + r + "," + g + "," + b + ")";
      entry.append(patch, name);
      return entry;
    }));
  };

  // ---- opening, turning, closing --------------------------------------------------------------

  const listed = () => [...document.querySelectorAll("[data-slides]")].filter(button => button.offsetParent !== null)
    .map(button => Number(button.dataset.slides)).filter((place, n, all) => all.indexOf(place) === n);

  const open = async place => {
    opened = place;
    const one = await read(place);
    if (opened !== place) return;
    shown = one;
    canvas.width = one.width;
    canvas.height = one.height;
    canvas.style.width = "min(100%, " + Math.max(one.width, 560) + "px)";
    canvas.style.aspectRatio = one.width + " / " + one.height;
    range.max = one.places.length - 1;
    range.value = one.start;
    range.disabled = range.parentElement.hidden = one.places.length < 2;
    element("viewer-title").textContent = one.case;
    ["left", "right", "top", "bottom"].forEach((side, n) => { dialog.querySelector(".edge." + side).textContent = one.edges[n]; });
    windows.hidden = one.scale !== "ct";
    windows.querySelector("select").value = Object.keys(WINDOWS).find(name => String(WINDOWS[name]) === String(one.window)) || "everything";
    const order = listed(), at = order.indexOf(place);
    for (const step of steps) step.disabled = order[at + Number(step.dataset.step)] === undefined;
    if (!dialog.open) dialog.showModal();
    (range.disabled ? canvas : range).focus();
    draw();
    dialog.dataset.shown = one.case;
  };

  const turn = by => {
    range.value = Number(range.value) + by;
    draw();
  };

  const toggle = layer => {
    layer.setAttribute("aria-pressed", String(layer.getAttribute("aria-pressed") !== "true"));
    draw();
  };

  for (const [box, names] of [[models, about.models], [windows, Object.keys(WINDOWS)]]) {
    box.querySelector("select").append(...names.map(name => new Option(name)));
    box.addEventListener("change", draw);
  }
  models.hidden = about.models.length < 2;
  range.addEventListener("input", draw);
  canvas.addEventListener("wheel", event => { event.preventDefault(); turn(Math.sign(event.deltaY)); }, { passive: false });
  layers.forEach(layer => layer.addEventListener("click", () => toggle(layer)));
  steps.forEach(step => step.addEventListener("click", () => {
    const order = listed();
    open(order[order.indexOf(opened) + Number(step.dataset.step)]);
  }));
  dialog.addEventListener("keydown", event => {
    const layer = layers.find(one => one.getAttribute("aria-keyshortcuts") === event.key.toLowerCase());
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    if (layer) toggle(layer);
    else if (event.target !== range && ["ArrowUp", "ArrowRight"].includes(event.key)) turn(1);
    else if (event.target !== range && ["ArrowDown", "ArrowLeft"].includes(event.key)) turn(-1);
    else return;
    event.preventDefault();
  });
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-slides]");
    if (button) open(Number(button.dataset.slides));
  });
  // A click beside the dialog closes it, as its Close button and Escape do.
  dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
})();
