// What the page adds where scripts run: tables that sort, filter and save themselves as CSV, theory
// for a network that the reader chooses, and an atlas of the networks that were trained.
//
// The page is complete without this script, which is why it makes all of its controls itself. It
// loads nothing and sends nothing. The content-security policy of the page lets no other script
// run: it names the digest of exactly this text, which is computed when the report is written.

function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

// ------------------------------------------------------------------------------------ tables

const MISSING = "–";
const collator = new Intl.Collator("en", { numeric: true }); // "depth 2" before "depth 10"

// The text of a cell on one line. What is told apart on the page by its place alone gets a sign: an
// exponent, and what stands in small letters below something else.
function textOf(cell) {
  const copy = cell.cloneNode(true);
  for (const exponent of copy.querySelectorAll("sup")) exponent.prepend("^");
  for (const below of copy.querySelectorAll(".below")) {
    below.prepend(" (");
    below.append(")");
  }
  return copy.textContent.trim().replace(/\s+/g, " ");
}

// The number that a text begins with, as the report writes numbers: "97.2 %", "−1.2 × 10^−45",
// "1,230", "3 of 12". It is NaN if there is none.
function numberOf(text) {
  const plain = text.replaceAll("−", "-").replaceAll(",", "").replace("∞", "Infinity");
  return parseFloat(plain.replace(/ ?× ?10\^/, "e"));
}

// Rows in the order of a column. What has no value, or none that is finite, comes last both ways.
function sorted(rows, column, isNumeric, direction) {
  const entries = rows.map((row) => {
    const text = textOf(row.cells[column]);
    return { row, value: isNumeric ? numberOf(text) : text };
  });
  const isKnown = ({ value }) => (isNumeric ? Number.isFinite(value) : value !== MISSING);
  const compare = isNumeric ? (a, b) => a - b : collator.compare;
  const known = entries.filter(isKnown).sort((a, b) => direction * compare(a.value, b.value));
  const unknown = entries.filter((entry) => !isKnown(entry));
  return [...known, ...unknown].map(({ row }) => row);
}

// Each click on a heading goes one step further: ascending, descending, the order of the report.
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

function makeSortable(table) {
  const body = table.tBodies[0];
  const inOrder = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const sort = () => {
      const order = NEXT[heading.ariaSort ?? "none"];
      for (const other of headings) other.removeAttribute("aria-sort");
      if (order !== "none") heading.setAttribute("aria-sort", order);
      const isNumeric = heading.classList.contains("number");
      const direction = order === "ascending" ? 1 : -1;
      body.append(...(order === "none" ? inOrder : sorted(inOrder, column, isNumeric, direction)));
    };
    // A button has the keyboard's Enter and Space by itself.
    const button = make("button", { type: "button", onclick: sort }, ...heading.childNodes);
    heading.append(button);
  });
}

// A field that keeps the rows with all of its words, and the count of these rows.
function filterOf(table) {
  const rows = [...table.tBodies[0].rows];
  const plain = (text) => text.toLowerCase().replaceAll("−", "-"); // as keyboards have it
  const texts = rows.map((row) => plain(row.textContent));
  const count = make("output");
  const show = (words) => {
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
    });
    const shown = rows.filter((row) => !row.hidden).length;
    const all = rows.length.toLocaleString("en");
    count.textContent = `${shown.toLocaleString("en")} of ${all} rows`;
  };
  const field = make("input", { type: "search", spellcheck: false, autocomplete: "off" });
  field.oninput = () => show(plain(field.value).split(/\s+/));
  show([]);
  return [make("label", {}, "Rows that contain ", field), count];
}

// A row of a table as a line of CSV.
function lineOf(row) {
  const quoted = (text) => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return [...row.cells].map(textOf).map(quoted).join(",");
}

function save(content, name) {
  const address = URL.createObjectURL(new Blob([content], { type: "text/csv;charset=utf-8" }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // some browsers read it only later
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));

// The lines of the file of a link, which the address itself holds.
function linesOf(link) {
  return new TextDecoder().decode(bytesOf(link.href.split(",")[1])).trimEnd().split("\n");
}

// Saves the rows that are shown, in their order. Those of final results are lines of the file that
// the page links to, with all digits.
function downloadOf(table) {
  const link = document.querySelector(`a[data-table="${CSS.escape(table.id)}"]`);
  const inOrder = [table.tHead.rows[0], ...table.tBodies[0].rows];
  const onclick = () => {
    const lines = link ? linesOf(link) : inOrder.map(lineOf);
    const line = new Map(inOrder.map((row, i) => [row, lines[i]]));
    const shown = [inOrder[0], ...table.tBodies[0].rows].filter((row) => !row.hidden);
    const content = shown.map((row) => `${line.get(row)}\n`).join("");
    save(content, link ? link.download : `${table.id}.csv`);
  };
  return make("button", { type: "button", onclick }, "Download as CSV");
}

for (const table of document.querySelectorAll(".table > table")) {
  const frame = table.parentElement;
  if (table.tBodies[0].rows.length > 1) makeSortable(table);
  const filter = frame.classList.contains("long") ? filterOf(table) : [];
  frame.before(make("div", { className: "controls" }, ...filter, downloadOf(table)));
}

// -------------------------------------------------------------------------- mean-field theory

const LEAKY_RELU_SLOPE = 0.2;
const PRELU_SLOPE = 0.25; // at initialization
const SELU_ALPHA = 1.6732632423543772;
const SELU_SCALE = 1.0507009873554805;

const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const density = (z) => Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);

const softplus = (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));

// The normal distribution function by its power series, which converges where it is not 0 or 1.
function normal(z) {
  if (Math.abs(z) > 8) return z > 0 ? 1 : 0;
  let sum = z;
  for (let term = z, n = 3, last; sum !== last; n += 2) {
    last = sum;
    term *= (z * z) / n;
    sum += term;
  }
  return 0.5 + sum * density(z);
}

// By the names of the package's registry: the function and its derivative; for those with kinks
// that are not at 0, that oscillate or that grow exponentially, E[f(sqrt(q) z)^2] of both, too.
const ACTIVATIONS = {
  linear: [(z) => z, () => 1],
  tanh: [Math.tanh, (z) => 1 / Math.cosh(z) ** 2],
  sigmoid: [sigmoid, (z) => sigmoid(z) * sigmoid(-z)],
  softsign: [(z) => z / (1 + Math.abs(z)), (z) => 1 / (1 + Math.abs(z)) ** 2],
  relu: [(z) => Math.max(z, 0), (z) => (z > 0 ? 1 : 0)],
  leaky_relu: [
    (z) => (z > 0 ? z : LEAKY_RELU_SLOPE * z),
    (z) => (z > 0 ? 1 : LEAKY_RELU_SLOPE),
  ],
  elu: [(z) => (z < 0 ? Math.expm1(z) : z), (z) => Math.exp(Math.min(z, 0))],
  selu: [
    (z) => SELU_SCALE * (z < 0 ? SELU_ALPHA * Math.expm1(z) : z),
    (z) => SELU_SCALE * (z < 0 ? SELU_ALPHA * Math.exp(z) : 1),
  ],
  gelu: [(z) => z * normal(z), (z) => normal(z) + z * density(z)],
  swish: [(z) => z * sigmoid(z), (z) => sigmoid(z) * (1 + z * sigmoid(-z))],
  softplus: [softplus, sigmoid],
  mish: [
    (z) => z * Math.tanh(softplus(z)),
    (z) => Math.tanh(softplus(z)) + (z * sigmoid(z)) / Math.cosh(softplus(z)) ** 2,
  ],
  relu6: [
    (z) => Math.min(Math.max(z, 0), 6),
    (z) => (z > 0 && z < 6 ? 1 : 0),
    (q) => {
      const end = 6 / Math.sqrt(q); // where it bends, in standard deviations
      if (end > 40) return q / 2;
      return q * (normal(end) - 0.5 - end * density(end)) + 36 * normal(-end);
    },
    (q) => normal(6 / Math.sqrt(q)) - 0.5,
  ],
  prelu: [(z) => (z > 0 ? z : PRELU_SLOPE * z), (z) => (z > 0 ? 1 : PRELU_SLOPE)],
  exponential: [Math.exp, Math.exp, (q) => Math.exp(2 * q), (q) => Math.exp(2 * q)],
  sine: [Math.sin, Math.cos, (q) => -Math.expm1(-2 * q) / 2, (q) => (1 + Math.exp(-2 * q)) / 2],
};

// Nodes and weights for E[f(z)], z normal: the trapezoid rule over t, z = e^t and z = -e^t. Both
// halves end at 0, where activation functions have their kinks; in t all of them are smooth at any
// variance, and the integrand falls off at both ends, which makes the rule converge exponentially.
const STEP = 1 / 8;
const NODES = Array.from({ length: 251 }, (_, i) => Math.exp(2.375 - i * STEP));
const WEIGHTS = NODES.map((z) => STEP * z * density(z));

// E[f(sqrt(q) z)^2]; for q = 0 and q = Infinity the limits, as far as they are finite.
function meanSquare(f, q) {
  const scale = Math.min(Math.max(Math.sqrt(q), 1e-150), 1e150);
  let sum = 0;
  for (let i = 0; i < NODES.length; i += 1) {
    const u = scale * NODES[i];
    sum += WEIGHTS[i] * (f(u) ** 2 + f(-u) ** 2);
  }
  return sum;
}

const TOLERANCE = 1e-10; // of relative changes of the length, above the error of the integrals
const CRITICAL = 1e-6; // |chi_1 - 1| up to which a phase is called critical
const [VANISHED, ENDLESS] = [1e-8, 1e8]; // lengths beyond which the search for a limit ends
// A length beyond them is 0 or infinite.
const [UNDERFLOW, OVERFLOW] = [1e-290, 1e300];
const inRange = (q) => (q < UNDERFLOW ? 0 : q < OVERFLOW ? q : Infinity);

// The length that layers tend to. The map is increasing, so that the length never passes a fixed
// point: the limit is the next one in the direction of the first step.
function limitOfLength(map, start) {
  const excess = (q) => map(q) / q - 1;
  let q = start;
  const rises = excess(q) > 0;
  if (Math.abs(excess(q)) < TOLERANCE) return q;
  while (q > VANISHED && q < ENDLESS) {
    const next = q * (rises ? 1.25 : 0.8);
    if (excess(next) > 0 !== rises) return bisect((x) => excess(x) > 0 === rises, q, next);
    q = next;
  }
  return rises ? Infinity : 0;
}

function bisect(isBefore, before, after) {
  for (let i = 0; i < 60; i += 1) {
    const middle = (before + after) / 2;
    if (isBefore(middle)) before = middle;
    else after = middle;
  }
  return before;
}

// What theory says of hidden layers 1 … depth of one width. `length` has q_l, `chi` the factor from
// layer l + 1 to layer l, and `signal` log10 of the RMS of the signal over that of the last layer.
function propagate(activation, sigmaW2, sigmaB2, depth) {
  const [f, derivative, square, slopeSquare] = ACTIVATIONS[activation];
  const map = (q) => {
    if (q === Infinity) return q;
    if (q === 0) return sigmaW2 * f(0) ** 2 + sigmaB2;
    return sigmaW2 * (square ? square(q) : meanSquare(f, q)) + sigmaB2;
  };
  const growth = (q) => sigmaW2 * (slopeSquare ? slopeSquare(q) : meanSquare(derivative, q));
  const length = [sigmaW2 + sigmaB2];
  while (length.length < depth) length.push(inRange(map(length.at(-1))));
  const chi = length.slice(0, -1).map(growth);
  const signal = Array(depth).fill(0);
  for (let i = depth - 2; i >= 0; i -= 1) signal[i] = signal[i + 1] + 0.5 * Math.log10(chi[i]);
  const limit = limitOfLength(map, length[0]);
  const chi1 = growth(limit);
  const off = Math.abs(chi1 - 1) <= CRITICAL ? 0 : chi1 - 1;
  const phase = off === 0 ? "critical" : off < 0 ? "ordered" : "chaotic";
  return { length, chi, signal, limit, chi1, phase };
}

// For tests, and for whoever opens the browser's console.
globalThis.gradprop = { propagate, activations: Object.keys(ACTIVATIONS) };

// --------------------------------------------------------------------------- numbers in words

const RAISED = Object.fromEntries([..."0123456789-"].map((sign, i) => [sign, "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"[i]]));
const raised = (n) => [...String(n)].map((sign) => RAISED[sign]).join("");

// A number with at most two significant digits, given its decimal logarithm.
function inWords(log) {
  if (!Number.isFinite(log)) return log < 0 ? "0" : "∞";
  if (log > -3 && log < 4) return digits(10 ** log);
  let exponent = Math.floor(log);
  let mantissa = (10 ** (log - exponent)).toFixed(1);
  if (mantissa === "10.0") [mantissa, exponent] = ["1.0", exponent + 1];
  return `${mantissa}\u00a0×\u00a010${raised(exponent)}`;
}

function digits(value, count = 2) {
  const rounded = Number(value.toPrecision(count));
  return rounded.toLocaleString("en", { maximumFractionDigits: 12 }).replace("-", "−");
}

const plural = (text, one, many) => `${text} ${text === "1" ? one : many}`;

// How much a magnitude changes over a number of steps, in decades.
function change(what, decades, steps) {
  if (Math.abs(decades) === Infinity) return `${what} leaves the range of float64.`;
  if (Math.abs(decades) < 0.005) return `${what} keeps its size.`;
  const total = plural(digits(Math.abs(decades)), "decade", "decades");
  const each = digits(Math.abs(decades) / steps);
  const verb = decades > 0 ? "gains" : "loses";
  return `${what} ${verb} ${total} in all, ${each} per layer on average.`;
}

// Of the numbers of float32 that have all their digits, log10 of the largest and the smallest.
const LARGEST = Math.log10(3.4028234663852886e38);
const SMALLEST = Math.log10(1.1754943508222875e-38);
const leavesFloat32 = (log) => log > LARGEST || log < SMALLEST;

const PHASES = {
  ordered:
    "This is the ordered phase: where lengths have settled, signals shrink on the way back, and " +
    "gradients vanish.",
  critical:
    "This is critical, the edge of chaos: on the way back, signals neither grow nor shrink by a " +
    "fixed factor.",
  chaotic:
    "This is the chaotic phase: where lengths have settled, signals grow on the way back, and " +
    "gradients explode.",
};

// What the curves mean, in sentences.
function meaning(chosen, theory) {
  const { depth, width } = chosen;
  const steps = depth - 1;
  const logs = theory.length.map(Math.log10);
  const forward = logs.findIndex((log) => leavesFloat32(log / 2));
  const back = theory.signal.findLastIndex(leavesFloat32);
  const limit = inWords(Math.log10(theory.limit));
  const changes = [
    change(`From layer 1 to layer ${depth}, the length`, logs.at(-1) - logs[0], steps),
    change(`From layer ${depth} back to layer 1, the signal`, theory.signal[0], steps),
  ];
  return [
    `The length tends to q* = ${limit}, where χ₁ = ${digits(theory.chi1, 4)}.`,
    PHASES[theory.phase],
    ...(steps > 0 ? changes : []),
    forward < 0
      ? "Pre-activations stay within the range of float32."
      : `Pre-activations leave the range of float32 in layer ${forward + 1}.`,
    back < 0
      ? `A signal of 1 in layer ${depth} stays within this range.`
      : `A signal of 1 in layer ${depth} leaves this range in layer ${back + 1}.`,
    "Single networks scatter about these curves, the more the deeper they are for their width: " +
      `depth over width is ${digits(depth / width)}.`,
  ].join(" ");
}

// --------------------------------------------------------------------------------- the picture

function draw(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const WIDTH = 440;
const HEIGHT = 300;
const LEFT = 62;
const [RIGHT, TOP, BOTTOM] = [WIDTH - 12, 12, HEIGHT - 46];

// Whole numbers from `low` to `high`, at most seven of them.
function ticksOf(low, high) {
  const step = [1, 2, 5, 10, 20, 50, 100, 200].find((size) => (high - low) / size <= 6) ?? 500;
  const first = Math.ceil(low / step) * step;
  return Array.from({ length: Math.floor((high - first) / step) + 1 }, (_, i) => first + i * step);
}

// Lines and numbers of both axes: whole decades, and places from 1 on.
function axesOf([name, across], low, high, labels, x, y) {
  return [
    ...ticksOf(low, high).flatMap((log) => [
      draw("path", { class: "grid", d: `M${LEFT} ${y(log)}H${RIGHT}` }),
      draw("text", { x: LEFT - 8, y: y(log) + 5, "text-anchor": "end" }, `10${raised(log)}`),
    ]),
    ...[1, ...ticksOf(2, labels.length)].map((place) =>
      draw("text", { x: x(place), y: BOTTOM + 20, "text-anchor": "middle" }, labels[place - 1]),
    ),
    draw("text", { x: (LEFT + RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, across),
    draw(
      "text",
      { transform: `translate(14 ${(TOP + BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" },
      name,
    ),
  ];
}

// A line from point to point; where the height is not finite, it is broken.
function pathOf(points) {
  const isDrawn = (point) => Number.isFinite(point?.[1]);
  const parts = points.map(([px, py], i) => {
    if (!isDrawn([px, py])) return "";
    return isDrawn(points[i - 1]) ? `L${px} ${py}` : `M${px} ${py}h0`; // a point alone is a dot
  });
  return parts.join("");
}

// Logarithms from left to right: a line, and dots. The axes are `names`, upwards and across; the
// horizontal one has a label for each of its places.
function plot(names, labels, line, dots, told) {
  const finite = [...line, ...dots].filter(Number.isFinite);
  const shown = finite.length > 0 ? finite : [0];
  const low = Math.floor(Math.min(...shown) - 0.1); // never the same as `high`
  const high = Math.ceil(Math.max(...shown) + 0.1);
  const x = (place) => LEFT + ((place - 1) / Math.max(labels.length - 1, 1)) * (RIGHT - LEFT);
  const y = (log) => BOTTOM - ((log - low) / (high - low)) * (BOTTOM - TOP);
  const placed = (logs) => logs.map((log, i) => [x(i + 1), y(log)]);
  const drawn = placed(dots).filter(([, cy]) => Number.isFinite(cy));
  return draw(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": told },
    ...axesOf(names, low, high, labels, x, y),
    draw("path", { class: "line", d: pathOf(placed(line)) }),
    ...drawn.map(([cx, cy]) => draw("circle", { class: "dot", cx, cy, r: 2.5 })),
  );
}

const numbersTo = (last) => Array.from({ length: last }, (_, i) => String(i + 1));

// Logarithms by layer: a line of theory, and dots of what was measured.
function compare(name, theory, measured) {
  const labels = numbersTo(Math.max(theory.length, measured.length));
  return plot([name, "Layer"], labels, theory, measured, inText(name, theory, measured));
}

function inText(name, theory, measured) {
  const ends = (logs) =>
    `${inWords(logs[0])} in layer 1, ${inWords(logs.at(-1))} in layer ${logs.length}`;
  const dots = measured.some(Number.isFinite) ? ` Measured: ${ends(measured)}.` : "";
  return `${name} by layer. Theory: ${ends(theory)}.${dots}`;
}

// ------------------------------------------------------------------------ the nearest networks

// Of the same activation the one that is nearest by weight variance and depth, in logarithms, and
// by bias variance. Between equals the initializer decides, and then the width.
function nearest(networks, chosen) {
  const distance = (network) => {
    const ratio = (key) => Math.log(network[key] / chosen[key]);
    const far = Math.hypot(ratio("sigma_w2"), ratio("depth"), network.sigma_b2 - chosen.sigma_b2);
    const isOther = network.id !== chosen.initializer.id;
    return far + 0.01 * isOther + 0.001 * Math.abs(ratio("width"));
  };
  const alike = networks.filter(({ activation }) => activation === chosen.activation);
  return alike.sort((a, b) => distance(a) - distance(b))[0];
}

const COMPARED = {
  sigma_w2: "the weight variance times the fan-in",
  sigma_b2: "the bias variance",
  depth: "the depth",
  width: "the width",
};

// In what a network differs from the choice, by more than one in a hundred.
function differences(network, chosen) {
  const differing = Object.entries(COMPARED)
    .map(([key, name]) => [name, network[key], chosen[key]])
    .filter(([, has, wanted]) => Math.abs(has - wanted) > 0.005 * (has + wanted))
    .map(([name, has, wanted]) => `${name} is ${digits(has, 3)} and not ${digits(wanted, 3)}`);
  return differing.length > 0
    ? `What differs: ${differing.join(", ")}.`
    : "Variances, depth and width are those chosen.";
}

// Which networks the dots are of.
function origin(network, chosen, data) {
  if (!network) {
    return [
      "No network of this report can be compared. It would need this activation, random weights " +
        "and layers of one width, without normalization or residual connections.",
    ];
  }
  const seeds = plural(String(network.seeds), "seed", "seeds");
  const layers = plural(String(network.depth), "layer", "layers");
  const loss = network.loss === "auto" ? "" : ` and the loss ${network.loss.replaceAll("_", " ")}`;
  const missing = [...network.length, ...network.signal].filter((log) => log === null).length;
  const medians = plural(String(missing), "median is", "medians are");
  const examples = `${network.dataset} with minibatches of ${network.batch_size}${loss}`;
  return [
    `The dots are medians over ${seeds} of the nearest networks measured at initialization (`,
    make("a", { href: `#${data.chapters[network.chapter - 1]}` }, `chapter ${network.chapter}`),
    `): ${network.initializer}, ${data.activations[network.activation]}, ${layers} of ` +
      `${network.width} units, on ${examples}. `,
    differences(network, chosen),
    missing > 0 ? ` ${medians} 0 or not finite and cannot be drawn.` : "",
  ];
}

// ------------------------------------------------------------------------------- the explorer

function selectOf(pairs, value) {
  const options = pairs.map(([id, name]) => make("option", { value: id }, name));
  const control = make("select", {}, ...options);
  control.value = value;
  return control;
}

const slider = (min, max, step, value) => make("input", { type: "range", min, max, step, value });

const LABELS = {
  activation: "Activation",
  initializer: "Initializer",
  gain: "Gain, a factor of the weights",
  bias: "Bias variance",
  depth: "Depth, the number of hidden layers",
  width: "Width, the units of every hidden layer",
};

function controlsOf(data) {
  const known = Object.entries(data.activations).filter(([name]) => name in ACTIVATIONS);
  const initializers = data.initializers.map(({ id, name }) => [id, name]);
  return {
    activation: selectOf(known, "relu"),
    initializer: selectOf(initializers, "glorot_normal"),
    gain: slider(0.1, 5, 0.01, 1),
    bias: slider(0, 1, 0.005, 0),
    depth: slider(1, data.deepest, 1, 50),
    width: selectOf(data.widths.map((width) => [width, width]), 64),
  };
}

// An initializer that is not defined for the activation can't be chosen, and gives way to another.
function allowInitializers({ activation, initializer }, data) {
  data.initializers.forEach(({ sigma_w2 }, i) => {
    initializer.options[i].disabled = !(activation.value in sigma_w2);
  });
  if (initializer.selectedOptions[0].disabled) {
    initializer.value = initializer.querySelector(":enabled").value;
  }
}

function choiceOf(controls, data) {
  allowInitializers(controls, data);
  const activation = controls.activation.value;
  const initializer = data.initializers[controls.initializer.selectedIndex];
  const gain = Number(controls.gain.value);
  return {
    activation,
    initializer,
    gain,
    sigma_w2: gain ** 2 * initializer.sigma_w2[activation][controls.width.selectedIndex],
    sigma_b2: Number(controls.bias.value),
    depth: Number(controls.depth.value),
    width: Number(controls.width.value),
  };
}

// What the page can't offer, if there is anything.
function limitsOf({ thinned, own, activations }) {
  const unknown = Object.entries(activations).filter(([name]) => !(name in ACTIVATIONS));
  const without = [...unknown.map(([, words]) => words), ...own];
  const thinning = `The page has one in ${thinned} of the measured configurations, to stay small.`;
  const missing =
    `Some activation functions (${without.join(", ")}) cannot be chosen, because the page has no ` +
    "code for them.";
  return [...(thinned > 1 ? [thinning] : []), ...(without.length > 0 ? [missing] : [])];
}

function explore(place, data) {
  const controls = controlsOf(data);
  const told = { gain: make("output"), bias: make("output"), depth: make("output") };
  const figure = make("figure");
  const dots = make("p", { className: "facts" });
  const text = make("p", { ariaLive: "polite" });

  function show() {
    const chosen = choiceOf(controls, data);
    const theory = propagate(chosen.activation, chosen.sigma_w2, chosen.sigma_b2, chosen.depth);
    const network = nearest(data.networks, chosen);
    const lengths = network?.length.map((log) => log ?? NaN) ?? [];
    const last = network?.signal.at(-1) ?? NaN; // without it there is nothing to compare with
    const signals = network?.signal.map((log) => (log ?? NaN) - last) ?? [];
    const variance = digits(chosen.sigma_w2, 3);
    told.gain.value = `${digits(chosen.gain, 3)}: weight variance times fan-in ${variance}`;
    told.bias.value = digits(chosen.sigma_b2, 3);
    told.depth.value = String(chosen.depth);
    figure.replaceChildren(
      compare("Length", theory.length.map(Math.log10), lengths),
      compare("Signal over that of the last layer", theory.signal, signals),
    );
    dots.replaceChildren("The line is theory. ", ...origin(network, chosen, data));
    text.textContent = meaning(chosen, theory);
  }

  const fields = Object.entries(controls).map(([key, control]) =>
    make("label", {}, make("span", {}, LABELS[key]), control, told[key] ?? ""),
  );
  const grouped = { className: "controls choices", role: "group", ariaLabel: "The network" };
  const form = make("div", { ...grouped, oninput: show }, ...fields);
  const limits = limitsOf(data).map((limit) => make("p", { className: "facts" }, limit));
  // in the place of what is said where no scripts run
  place.replaceChildren(form, figure, dots, ...limits, text);
  show();
}

explore(
  document.getElementById("explorer"),
  JSON.parse(document.getElementById("explorer-data").textContent),
);

// ---------------------------------------------------------------------------------- the atlas

// Codes of report/atlas.py: up to LAST_CODE logarithms, above it these, in order.
const LAST_CODE = 252;
const ZERO_CODE = LAST_CODE + 1;
const STATES = [
  ["exactly 0", [20, 20, 20]],
  ["diverged or not finite", [240, 200, 0]],
  ["not measured", [150, 150, 150]],
];

// Changes from -MOST_DECADES to MOST_DECADES; the colours of states are not among these.
const MOST_DECADES = 6;
const COLOURS = [
  [26, 74, 138],
  [122, 172, 214],
  [245, 244, 240],
  [238, 156, 121],
  [158, 42, 20],
];

function colourOf(decades) {
  const share = Math.min(Math.max(decades / MOST_DECADES, -1), 1);
  const place = ((share + 1) / 2) * (COLOURS.length - 1);
  const i = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[i].map((low, channel) => low + (place - i) * (COLOURS[i + 1][channel] - low));
}

// The networks of a sheet, each with its part of the codes: probe by probe, layer by layer.
function networksOf(sheet) {
  const bytes = bytesOf(sheet.codes);
  let end = 0;
  return sheet.networks.cell.map((_, i) => {
    const columns = Object.entries(sheet.networks).map(([name, values]) => [name, values[i]]);
    const network = Object.fromEntries(columns);
    const steps = sheet.probes[network.probes];
    const layers = network.depth + 1;
    const start = end;
    end += steps.length * layers;
    return { ...network, steps, layers, codes: bytes.subarray(start, end) };
  });
}

// log10 of what codes stand for.
function logsOf({ low, quantum }, codes) {
  const logOf = (code) => (code === ZERO_CODE ? -Infinity : NaN);
  return Array.from(codes, (code) => (code > LAST_CODE ? logOf(code) : low + quantum * code));
}

Object.assign(globalThis.gradprop, { networksOf, logsOf });

// A picture of colours, one pixel each, from left to right and downwards.
function pixels(width, height, colours) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  colours.forEach((colour, i) => image.data.set([...colour, 255], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

// Layers upwards, probes to the right.
function mapOf({ low, quantum, middle, layers, steps, codes }) {
  const levels = numbersTo(LAST_CODE + 1).map((_, code) => colourOf(low + quantum * code - middle));
  const palette = [...levels, ...STATES.map(([, colour]) => colour)];
  const colours = Array.from(codes, (_, i) => {
    const [probe, height] = [i % steps.length, Math.floor(i / steps.length)];
    return palette[codes[probe * layers + layers - 1 - height]];
  });
  return pixels(steps.length, layers, colours);
}

const titleOf = (sheet, { row, depth, seed }) =>
  [...sheet.rows[row].filter(Boolean), `depth ${depth}`, `seed ${seed}`].join(", ");

const fateOf = ({ start, end }, marks) =>
  `${marks[start]} at initialization, ${marks[end]} at the end`;

function buttonOf(sheet, network, marks) {
  const { start, end } = network;
  const title = titleOf(sheet, network);
  const given = { type: "button", tabIndex: -1, title };
  const ariaLabel = `${title}: ${fateOf(network, marks)}`;
  const signs = start === end ? start : `${start}→${end}`;
  return make("button", { ...given, ariaLabel }, mapOf(network), make("span", {}, signs));
}

const ascending = (numbers) => [...new Set(numbers)].sort((a, b) => a - b);

// A row of the networks that share all but depth and seed.
function rowOf([initializer, rest], networks, depths, add) {
  const fields = depths.map((depth) => {
    const inField = networks.filter((network) => network.depth === depth);
    return make("td", {}, make("div", { className: "field" }, ...inField.map(add)));
  });
  const below = make("span", { className: "below" }, rest);
  return make("tr", {}, make("th", { scope: "row" }, initializer, below), ...fields);
}

// Initializers downwards, depths to the right; `add` makes the button of a network.
function tableOf(sheet, networks, add) {
  const depths = ascending(networks.map(({ depth }) => depth));
  const heading = (text) => make("th", { scope: "col" }, text);
  const head = [heading("Initializer"), ...depths.map((depth) => heading(`Depth ${depth}`))];
  const rows = sheet.rows.map((names, number) => {
    const inRow = networks.filter(({ row }) => row === number);
    return inRow.length > 0 ? [rowOf(names, inRow, depths, add)] : [];
  });
  return make(
    "table",
    { ariaLabel: sheet.name },
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...rows.flat()),
  );
}

// The map beside another one, or of those above or below the one that is nearest to it.
function neighbour(button, key) {
  const row = button.closest("tr");
  const mapsOf = (other) => [...(other?.querySelectorAll("button") ?? [])];
  const beside = (step) => mapsOf(row)[mapsOf(row).indexOf(button) + step];
  const left = (other) => other.getBoundingClientRect().left;
  const distance = (other) => Math.abs(left(other) - left(button));
  const nearestOf = (other) => mapsOf(other).sort((a, b) => distance(a) - distance(b))[0];
  return {
    ArrowLeft: () => beside(-1),
    ArrowRight: () => beside(1),
    ArrowUp: () => nearestOf(row.previousElementSibling),
    ArrowDown: () => nearestOf(row.nextElementSibling),
  }[key]?.();
}

// One map at a time can be reached by the tabulator; from it the arrow keys lead to the others.
function moveByKey(event) {
  const next = event.key.startsWith("Arrow") && neighbour(event.target, event.key);
  if (!next) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// ------------------------------------------------------------------ the details of a network

const lossInWords = (loss) => (loss === null ? MISSING : inWords(Math.log10(loss)));
const percent = (share) => (share === null ? MISSING : `${(100 * share).toFixed(1)}\u202f%`);

function lossPlot({ steps, losses }) {
  const logs = losses.map((loss) => (loss === null ? NaN : Math.log10(loss)));
  const at = (i) => `${lossInWords(losses.at(i))} at step ${steps.at(i)}`;
  const told = `Training loss by step: ${at(0)}, ${at(-1)}.`;
  return plot(["Training loss", "Step"], steps.map(String), logs, logs, told);
}

function gradientPlot(network) {
  const { layers, steps, codes } = network;
  const start = logsOf(network, codes.subarray(0, layers));
  const end = logsOf(network, codes.subarray(-layers));
  const inLayer = (log) => (Number.isNaN(log) ? "not finite or not measured" : inWords(log));
  const ends = (logs) => `${inLayer(logs[0])} in layer 1, ${inLayer(logs.at(-1))} in the last`;
  const [first, last] = [ends(start), ends(end)];
  const told = `Weight gradient by layer. Step 0: ${first}. Step ${steps.at(-1)}: ${last}.`;
  return plot(["Weight gradient", "Layer"], numbersTo(layers), start, end, told);
}

// What has no logarithm, and of how many gradients.
function statesOf({ codes }) {
  const counts = STATES.map(([name], i) => {
    const found = codes.filter((code) => code === LAST_CODE + 1 + i).length;
    return found > 0 ? [`${found.toLocaleString("en")} ${name}`] : [];
  }).flat();
  const all = codes.length.toLocaleString("en");
  return counts.length > 0 ? `of ${all}: ${counts.join(", ")}` : `all ${all} finite and not 0`;
}

function listOf(pairs) {
  const entries = pairs.flatMap(([term, text]) => [make("dt", {}, term), make("dd", {}, text)]);
  return make("dl", {}, ...entries);
}

function detailsOf(sheet, network, { marks, command }) {
  const last = network.steps.at(-1);
  const losses = [network.final_train_loss, network.final_test_loss].map(lossInWords);
  const shares = [network.final_train_accuracy, network.final_test_accuracy].map(percent);
  const file = `config/studies/${sheet.study}/study.yaml`;
  const again = make("code", {}, `${command} study_${sheet.study}`);
  return [
    make("h3", {}, titleOf(sheet, network)),
    listOf([
      ["Parameters", sheet.settings[network.setting]],
      ["Cell", make("code", {}, network.cell)],
      ["Status", network.status],
      ["Diagnosis", fateOf(network, marks)],
      ["Final loss", `training ${losses[0]}, test ${losses[1]}`],
      ["Final accuracy", `training ${shares[0]}, test ${shares[1]}`],
      ["Gradients", statesOf(network)],
    ]),
    make("figure", {}, lossPlot(network), gradientPlot(network)),
    make(
      "p",
      { className: "facts" },
      `Of the gradients, the line is step 0 and the dots are step ${last}. `,
      "The network is one of the grid in ",
      make("code", {}, file),
      "; this makes its study again where something is missing or out of date:",
    ),
    make("pre", { tabIndex: 0 }, again),
  ];
}

// ------------------------------------------------------------------------ sheets of the atlas

const MOST_SEEDS = 5; // side by side

// The most seeds of one field.
function seedsOf(networks) {
  const counts = new Map();
  for (const { row, depth } of networks) {
    const field = `${row} ${depth}`;
    counts.set(field, (counts.get(field) ?? 0) + 1);
  }
  return Math.max(...counts.values());
}

// What colours and signs mean.
function keyOf(marks) {
  const swatch = (colour) => pixels(1, 1, [colour]);
  const scale = numbersTo(121).map((_, i) => colourOf((i / 60 - 1) * MOST_DECADES));
  const [lowest, highest] = [`−${MOST_DECADES} or less `, ` +${MOST_DECADES} decades or more`];
  const diagnoses = Object.entries(marks).map(([mark, name]) => `${mark} ${name}`);
  return make(
    "ul",
    { className: "key" },
    make("li", {}, lowest, pixels(121, 1, scale), highest),
    ...STATES.map(([name, colour]) => make("li", {}, swatch(colour), ` ${name}`)),
    make("li", {}, `${diagnoses.join(", ")} (an arrow: at initialization → at the end)`),
  );
}

function atlas(place, given) {
  const data = { ...given, marks: Object.fromEntries(given.marks) };
  const sheets = selectOf(data.sheets.map(({ name }, i) => [i, name]), 0);
  const seeds = make("select");
  const seedField = make("label", {}, "Seed ", seeds);
  const maps = make("div", { className: "sheet", role: "group", ariaLabel: "Maps" });
  const details = make("div", { className: "network" });
  const spoken = make("p", { className: "unseen", ariaLive: "polite" });
  let sheet = null;
  let networks = [];

  function open(button, network) {
    maps.querySelector("[aria-current]")?.removeAttribute("aria-current");
    button.setAttribute("aria-current", "true");
    spoken.textContent = `Details below: ${button.ariaLabel}`;
    details.replaceChildren(...detailsOf(sheet, network, data));
    details.scrollIntoView({ block: "nearest" });
  }

  function show() {
    const isShown = ({ seed }) => seedField.hidden || seed === Number(seeds.value);
    const add = (network) => {
      const button = buttonOf(sheet, network, data.marks);
      button.onclick = () => open(button, network);
      return button;
    };
    maps.replaceChildren(tableOf(sheet, networks.filter(isShown), add));
    maps.querySelector("button").tabIndex = 0;
    details.replaceChildren();
  }

  function choose() {
    sheet = data.sheets[sheets.selectedIndex];
    networks = networksOf(sheet);
    const numbers = ascending(networks.map(({ seed }) => seed));
    seeds.replaceChildren(...numbers.map((seed) => make("option", {}, String(seed))));
    seedField.hidden = seedsOf(networks) <= MOST_SEEDS;
    show();
  }

  sheets.oninput = choose;
  seeds.oninput = show;
  maps.onkeydown = moveByKey;
  const [shown, trained] = [data.shown, data.trained].map((count) => count.toLocaleString("en"));
  const thinned = `The page has ${shown} of ${trained} networks, first seeds first, to stay small.`;
  const notes = data.shown < data.trained ? [make("p", { className: "facts" }, thinned)] : [];
  const controls = [make("label", {}, "Sheet ", sheets), seedField];
  const bar = make("div", { className: "controls" }, ...controls);
  place.replaceChildren(keyOf(data.marks), bar, maps, ...notes, spoken, details);
  choose();
}

const drawn = document.getElementById("maps"); // not there if no network was trained
if (drawn) atlas(drawn, JSON.parse(document.getElementById("atlas-data").textContent));
