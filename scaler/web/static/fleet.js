// The page of all pools: one row each, kept in place and changed cell by cell.
import { $, Stream, chip, element, figure, fill, number, perSecond, sparkline, tags } from "./page.js";

const names = new Intl.Collator(undefined, { numeric: true });
const rows = new Map(); // name -> { pool, row, cells }
const sorting = { key: "name", down: false };
const filter = { text: "", state: "" };

const workers = (pool) => {
  const spec = figure(pool.specReplicas);
  if (pool.desiredReplicas === null || pool.desiredReplicas === pool.specReplicas) return spec;
  return [...spec, " → ", number(pool.desiredReplicas)];
};
const between = (pool) =>
  pool.minReplicas === null || pool.minReplicas === undefined ? [] : [" ", element("span", { class: "bounds" }, element("span", { class: "hidden" }, "between "), `${number(pool.minReplicas)}–${number(pool.maxReplicas)}`)];

const COLUMNS = [
  { key: "name", title: "Pool", class: "name", cell: (pool) => [element("a", { href: `pools/${encodeURIComponent(pool.name)}` }, pool.name), ...tags(pool)], by: (pool) => pool.name },
  { key: "state", title: "State", class: "state", cell: (pool) => [chip(pool.state)], by: (pool) => pool.state },
  { key: "queued", title: "Queued", class: "n", cell: (pool) => figure(pool.queued, pool.queuedAtLeast), by: (pool) => pool.queued ?? pool.queuedAtLeast ?? -1 },
  { key: "unacked", title: "Unacked", class: "n wide", cell: (pool) => figure(pool.unacked), by: (pool) => pool.unacked ?? -1 },
  { key: "active", title: "Active", class: "n running", cell: (pool) => figure(pool.active), by: (pool) => pool.active ?? -1 },
  { key: "notDue", title: "Not due", class: "n wider", cell: (pool) => figure(pool.notDue), by: (pool) => pool.notDue ?? -1 },
  { key: "workers", title: "Workers", class: "n workers", cell: (pool) => [element("span", {}, ...workers(pool)), ...between(pool)], by: (pool) => pool.specReplicas ?? -1 },
  { key: "capacity", title: "Capacity", class: "n wider", cell: (pool) => figure(pool.capacity), by: (pool) => pool.capacity ?? -1 },
  { key: "in", title: "Arriving", class: "n wide", cell: (pool) => figure(pool.arrivalsPerSecond, null, perSecond), by: (pool) => pool.arrivalsPerSecond ?? -1 },
  { key: "out", title: "Worked off", class: "n wide", cell: (pool) => figure(pool.begunPerSecond, null, perSecond), by: (pool) => pool.begunPerSecond ?? -1 },
  { key: "spark", title: "Last hour", class: "chart", cell: (pool) => (pool.spark ? [sparkline(pool.spark)] : []) },
  { key: "why", title: "Why", class: "why", cell: (pool) => [element("span", { class: "reason" }, pool.problem ? pool.ready : pool.reason), " ", element("span", { class: "sentence", title: pool.problem ?? pool.message }, pool.problem ?? pool.message)] },
];

function columns() {
  $("columns").replaceChildren(...COLUMNS.map((column) => {
    const head = element("th", { class: column.class, scope: "col" });
    if (!column.by) return head.append(column.title), head;
    const button = element("button", { type: "button" }, column.title);
    button.addEventListener("click", () => {
      sorting.down = sorting.key === column.key ? !sorting.down : column.class.split(" ")[0] === "n";
      sorting.key = column.key;
      mark();
      arrange();
    });
    head.append(button);
    return head;
  }));
  mark();
}

function mark() {
  COLUMNS.forEach((column, index) => {
    const head = $("columns").children[index];
    if (sorting.key === column.key) head.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function draw(pool) {
  let known = rows.get(pool.name);
  if (!known) {
    const cells = COLUMNS.map((column) => element("td", { class: column.class }));
    known = { row: element("tr", {}, ...cells), cells, fresh: true };
    rows.set(pool.name, known);
  }
  known.pool = pool;
  COLUMNS.forEach((column, index) => fill(known.cells[index], ...column.cell(pool)));
  known.row.dataset.state = pool.state;
}

function shown(pool) {
  if (filter.state && pool.state !== filter.state) return false;
  return !filter.text || pool.name.toLowerCase().includes(filter.text) || (pool.queues ?? []).some((queue) => queue.toLowerCase().includes(filter.text));
}

let ordered = "";
function arrange() {
  const column = COLUMNS.find((each) => each.key === sorting.key);
  const sign = sorting.down ? -1 : 1;
  const wanted = [...rows.values()].filter((each) => shown(each.pool)).sort((one, other) => {
    const a = column.by(one.pool);
    const b = column.by(other.pool);
    if (a === b || column.key === "name") return names.compare(one.pool.name, other.pool.name) * (a === b ? 1 : sign);
    return a < b ? -sign : sign;
  });
  const order = wanted.map((each) => each.pool.name).join("\n");
  if (order !== ordered || !wanted.length) {
    ordered = order;
    $("rows").replaceChildren(...wanted.map((each) => each.row));
  }
  $("pools").hidden = !wanted.length;
  $("pools").classList.toggle("plain", ![...rows.values()].some((each) => each.pool.spark));
  $("empty").hidden = !!wanted.length;
  $("empty").textContent = rows.size ? "No pool is like that." : "There is no Celery object in this namespace yet: pulumi up makes one for each pool.";
  $("shown").textContent = filter.text || filter.state ? `${number(wanted.length)} of ${number(rows.size)} pools` : "";
}

const ORDER = ["Limited", "Hold", "Draining", "Active", "Paused", "Idle"];

function totals() {
  const pools = [...rows.values()].map((each) => each.pool);
  const sum = (key) => {
    const known = pools.map((pool) => pool[key]).filter((value) => value !== null && value !== undefined);
    const total = known.reduce((one, other) => one + other, 0);
    return known.length === pools.length ? figure(total) : figure(null, total);
  };
  const figures = [
    ["Pools", [number(pools.length)]],
    ["Queued", sum("queued")],
    ["Active", sum("active")],
    ["Workers", sum("specReplicas")],
    ["Worked off", sumRate(pools)],
  ];
  fill($("totals"), ...figures.map(([title, value]) => element("div", {}, element("dt", {}, title), element("dd", {}, ...value))));
  const counts = new Map();
  for (const pool of pools) counts.set(pool.state, (counts.get(pool.state) ?? 0) + 1);
  if (filter.state && !counts.has(filter.state)) counts.set(filter.state, 0);
  const box = $("states");
  const key = [...counts].sort().join() + filter.state;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.state : null;
  box.replaceChildren(...ORDER.filter((state) => counts.has(state)).map((state) => {
    const button = element("button", { type: "button", class: `chip ${state.toLowerCase()}`, "aria-pressed": String(filter.state === state) }, `${state} ${number(counts.get(state))}`);
    button.dataset.state = state;
    button.addEventListener("click", () => {
      filter.state = filter.state === state ? "" : state;
      totals();
      arrange();
    });
    return button;
  }));
  if (focused) box.querySelector(`[data-state="${focused}"]`)?.focus();
}

function sumRate(pools) {
  const known = pools.map((pool) => pool.begunPerSecond).filter((value) => value !== null && value !== undefined);
  return known.length ? figure(known.reduce((one, other) => one + other, 0), null, perSecond) : figure(null);
}

let arrangedAt = 0;
function take(fleet) {
  if (fleet.whole) {
    const present = new Set(fleet.pools.map((pool) => pool.name));
    for (const name of rows.keys()) if (!present.has(name)) rows.delete(name);
  }
  const before = rows.size;
  fleet.pools.forEach(draw);
  for (const name of fleet.gone) rows.delete(name);
  totals();
  // Rows that change places under the reader's eye help nobody: at most every 5 s, and at once for a new one.
  if (fleet.whole || before !== rows.size || fleet.gone.length || performance.now() - arrangedAt > 5000) {
    arrangedAt = performance.now();
    arrange();
  }
}

columns();
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("input", () => {
  filter.text = $("search").value.trim().toLowerCase();
  arrange();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input")) return;
  event.preventDefault();
  $("search").focus();
});
new Stream(() => "?format=events", { fleet: take });
