// The page of one pool: its figures, its last hour, and how each decision was made.
import { Chart } from "./chart.js";
import { $, Stream, chip, duration, element, figure, fill, number, perSecond, tags, time } from "./page.js";

const RULES = { hold: "Hold", demand: "Demand", wish: "Wish", unknown: "Unknown", tolerance: "Tolerance", calm: "Calm", stepLimits: "Step limits", bounds: "Bounds" };
const HOUR = 3600;
const MOST_ENTRIES = 100;

const chart = new Chart($("chart"), $("readout"), $("legend"));
const log = []; // newest first
let pool = null;
let takenAt = null; // of the last event: what is newer is asked for when the stream comes back

const entry = (title, value, note) => element("div", {}, element("dt", {}, title), element("dd", {}, ...value), note ? element("dd", { class: "note" }, note) : null);

function messages() {
  const due = pool.notDue && pool.nextDueAt ? `next at ${time(pool.nextDueAt)}` : null;
  const figures = [
    entry("Queued", figure(pool.queued, pool.queuedAtLeast)),
    entry("Unacked", figure(pool.unacked)),
    entry("Active", figure(pool.active)),
    entry("Not due", figure(pool.notDue), due),
  ];
  if (pool.stranded) figures.push(entry("Stranded", figure(pool.stranded), "their worker is gone"));
  const sure = pool.demand !== null || pool.demandAtLeast === null;
  fill($("demand"), ...figure(pool.demand, pool.demandAtLeast), sure || pool.demandAtMost === null ? null : element("span", { class: "bounds" }, `at most ${number(pool.demandAtMost)}`));
  fill($("messages"), ...figures);
}

function workers() {
  const now = figure(pool.specReplicas);
  const wanted = pool.desiredReplicas === null ? [] : [element("span", { class: "arrow", "aria-hidden": "true" }, "→"), element("span", { class: "hidden" }, "to"), ...figure(pool.desiredReplicas)];
  const bounds = pool.minReplicas === undefined ? "" : `between ${number(pool.minReplicas)} and ${number(pool.maxReplicas)}`;
  fill($("workers"), element("p", { class: "big" }, ...now, ...(pool.desiredReplicas === pool.specReplicas ? [] : wanted), element("span", { class: "bounds" }, bounds)), ...scale());
  fill($("slots"), entry("Ready", figure(pool.readyReplicas)), entry("Capacity", figure(pool.capacity), pool.concurrency ? `${number(pool.concurrency)} a worker` : null), ...(pool.draining ? [entry("Leaving", figure(pool.draining))] : []));
  const leaving = pool.draining ? `${pool.drainMessage}.` : "";
  $("drain").textContent = leaving;
  $("drain").hidden = !leaving;
}

/** Where the workers are between least and most: a bar, with a mark at what is decided. */
function scale() {
  if (pool.maxReplicas === undefined || pool.specReplicas === null) return [];
  const space = "http://www.w3.org/2000/svg";
  const most = Math.max(pool.maxReplicas, pool.specReplicas, pool.desiredReplicas ?? 0, 1);
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "scale");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("viewBox", "0 0 100 8");
  svg.setAttribute("preserveAspectRatio", "none");
  const bar = (name, from, to, y, height) => {
    const rect = document.createElementNS(space, "rect");
    rect.setAttribute("class", name);
    rect.setAttribute("x", String((from / most) * 100));
    rect.setAttribute("width", String(Math.max(0, ((to - from) / most) * 100)));
    rect.setAttribute("y", String(y));
    rect.setAttribute("height", String(height));
    svg.append(rect);
  };
  bar("track", 0, most, 2.5, 3);
  bar("allowed", pool.minReplicas, pool.maxReplicas, 2.5, 3);
  bar("ready", 0, pool.readyReplicas ?? pool.specReplicas, 1.5, 5);
  if (pool.desiredReplicas !== null) {
    const x = Math.min(99, Math.max(0, (pool.desiredReplicas / most) * 100 - 0.5));
    bar("desired", (x / 100) * most, ((x + 1) / 100) * most, 0, 8);
  }
  return [svg];
}

function pace() {
  const [come, go, demand] = [pool.arrivalsPerSecond, pool.begunPerSecond, pool.demandAtLeast];
  fill($("begun"), ...figure(go, null, perSecond));
  const figures = [entry("Arriving", figure(come, null, perSecond))];
  if (demand && come !== null && go !== null) {
    const net = go - come;
    if (net > 0.05) figures.push(entry("Done in about", [duration(demand / net)], "at this pace"));
    else if (net < -0.05) figures.push(entry("Growing by", [perSecond(-net)]));
  }
  if (pool.lastScaleAt) figures.push(entry("Last scaled", [time(pool.lastScaleAt)]));
  fill($("pace"), ...figures);
}

function steps(list, head) {
  if (!list.length) return element("p", { class: "empty" }, "Nothing was decided.");
  const rows = list.map((step) => {
    const change = step.before === step.after ? number(step.after) : `${number(step.before)} → ${number(step.after)}`;
    return element("tr", { class: step.before === step.after ? "" : "changed" }, element("th", { scope: "row" }, RULES[step.rule] ?? step.rule), element("td", {}, step.sentence), element("td", { class: "n" }, change));
  });
  return element("table", { class: "steps" }, element("caption", { class: "hidden" }, head), element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Step"), element("th", { scope: "col" }, "Arithmetic"), element("th", { scope: "col", class: "n" }, "Workers"))), element("tbody", {}, ...rows));
}

function logged(entry_) {
  const [before, after] = [entry_.specReplicas, entry_.desiredReplicas];
  const moved = entry_.scaled ? `${number(entry_.scaled.from)} → ${number(entry_.scaled.to)}` : before === after || after === null ? "" : `${figureText(before)} → ${number(after)}`;
  const words = entry_.scaled ? "scaled" : entry_.shadow && moved ? "would scale" : entry_.leaving.length ? `${entry_.leaving.length} leaving` : moved ? "wanted" : "";
  const details = element("details", {},
    element("summary", {},
      element("time", { dateTime: new Date(entry_.at * 1000).toISOString() }, time(entry_.at)),
      element("span", { class: "moved" }, moved, words ? element("small", {}, words) : null),
      element("span", { class: "reason" }, entry_.reason),
      element("span", { class: "sentence" }, entry_.message)));
  // Made when it is opened: a hundred tables that nobody looks at are a slow page.
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(steps(entry_.steps, `The steps of the decision at ${time(entry_.at)}`));
  }, { once: true });
  return element("li", { class: entry_.scaled ? "scaled" : "" }, details);
}

const figureText = (value) => (value === null ? "–" : number(value));

function remember(entries) {
  for (const each of [...entries].reverse()) {
    log.unshift(each);
    $("log").prepend(logged(each));
    if (each.scaled && entries.length < 5) $("announce").textContent = `${pool.name}: ${each.scaled.from} to ${each.scaled.to} workers, ${each.reason}`;
  }
  while (log.length > MOST_ENTRIES) {
    log.pop();
    $("log").lastElementChild.remove();
  }
  $("log-empty").hidden = log.length > 0;
}

function commands() {
  const key = JSON.stringify(pool.commands);
  const place = $("commands");
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.replaceChildren(...pool.commands.map(({ what, command }, index) => {
    const code = element("code", { id: `command-${index}`, tabIndex: 0 }, command);
    const button = element("button", { type: "button", class: "quiet", "aria-describedby": code.id }, "Copy");
    button.addEventListener("click", async () => {
      button.textContent = (await copy(code)) ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    return element("li", {}, element("span", { class: "what" }, what), element("div", { class: "command" }, code, button));
  }));
}

async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    // Only https and localhost may use the clipboard: mark the text, and try the old way.
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}

function summary() {
  const known = chart.points.demand.filter((value) => value !== null);
  const peak = known.length ? `Demand is ${pool.demandAtLeast === null ? "not known" : number(pool.demandAtLeast)} now and was ${number(Math.max(...known))} at most.` : "The demand of the last hour is not known.";
  const ready = chart.points.ready.filter((value) => value !== null);
  const workers_ = ready.length ? ` Between ${number(Math.min(...ready))} and ${number(Math.max(...ready))} workers were ready.` : "";
  $("chart-summary").textContent = peak + workers_;
  $("chart").setAttribute("aria-label", `Demand and workers of ${pool.name} in the last hour`);
}

function take(document_) {
  pool = document_.pool;
  takenAt = document_.at;
  const first = $("name").textContent !== pool.name;
  if (first) {
    $("name").textContent = pool.name;
    document.title = `${pool.name} – Celery Fleet`;
  }
  fill($("state"), chip(pool.state));
  fill($("tags"), ...tags(pool));
  $("queues").textContent = pool.queues ? `${pool.queues.length === 1 ? "Queue" : "Queues"} ${pool.queues.join(", ")} · Deployment ${pool.deployment} · meant for ${number(pool.averageValue)} messages a worker` : "";
  fill($("message"), element("span", { class: "reason" }, pool.reason), " ", pool.message);
  $("problem").textContent = pool.problem ?? "";
  $("problem").hidden = !pool.problem;
  messages();
  workers();
  pace();
  commands();
  fill($("steps"), steps(pool.steps ?? [], "The steps of the last decision"));
  remember(document_.log);
  chart.add(document_.history, pool, HOUR);
  summary();
}

const stream = new Stream(
  () => (takenAt === null ? "?format=events" : `?format=events&since=${takenAt}`),
  {
    pool: take,
    gone: () => stream.end("This pool's Celery object is gone: what you see is the last that was known of it."),
  },
);
