// Demand and workers on one time axis, drawn by uPlot; marks where the number of workers was changed.
/* global uPlot */
import { element, number, time } from "./page.js";

const LEAST_SECONDS = 600;
const SERIES = [
  { key: "demand", name: "Demand", sign: "area" },
  { key: "ready", name: "Workers ready", sign: "line" },
  { key: "desired", name: "Workers decided", sign: "dashes" },
];

export class Chart {
  constructor(place, readout, legend) {
    this.place = place;
    this.readout = readout;
    this.points = { at: [], demand: [], desired: [], ready: [], until: null };
    this.scaled = []; // { at, up }
    this.marks = [];
    this.marked = element("span", {}, "Scaled");
    this.bounds = [0, 1];
    legend.replaceChildren(
      ...SERIES.map(({ name, sign }) => element("li", {}, element("span", { class: `sign ${sign}`, "aria-hidden": "true" }), name)),
      element("li", {}, element("span", { class: "sign mark", "aria-hidden": "true" }, "▲▼"), this.marked),
    );
    document.addEventListener("theme", () => this.rebuild());
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(place);
    place.addEventListener("keydown", (event) => this.move(event));
    place.addEventListener("blur", () => this.plot?.setCursor({ left: -10, top: -10 }));
  }

  /** The points that are new; an hour of them stays. */
  add(history, pool, seconds) {
    const points = this.points;
    for (const key of ["at", "demand", "desired", "ready"]) points[key].push(...history[key]);
    points.until = history.until ?? points.until;
    if (points.until === null) return;
    const old = points.at.findIndex((at) => at > points.until - seconds);
    if (old > 1) for (const key of ["at", "demand", "desired", "ready"]) points[key].splice(0, old - 1);
    const { at, from, to } = history.scaled;
    this.scaled.push(...at.map((each, index) => ({ at: each, up: to[index] > from[index] })));
    this.scaled = this.scaled.filter((mark) => mark.at > points.until - seconds);
    this.marks = pool.mode === "shadow" ? wishes(points) : this.scaled;
    this.marked.textContent = pool.mode === "shadow" ? "Would scale" : "Scaled";
    this.bounds = [pool.minReplicas ?? 0, pool.maxReplicas ?? 1];
    this.seconds = seconds;
    if (this.plot) this.plot.setData(this.data());
    else this.rebuild();
  }

  /** Each value holds until the next point, so what is not known begins where the last known one ends. */
  data() {
    const { at, demand, desired, ready, until } = this.points;
    const columns = [[], [], [], []];
    const put = (x, ...values) => {
      columns[0].push(x);
      values.forEach((value, index) => columns[index + 1].push(value));
    };
    at.forEach((x, index) => {
      if (index) {
        const before = [demand[index - 1], ready[index - 1], desired[index - 1]];
        const now = [demand[index], ready[index], desired[index]];
        if (now.some((value, column) => (value === null) !== (before[column] === null))) put(x - 0.05, ...before);
      }
      put(x, demand[index], ready[index], desired[index]);
    });
    const last = at.length - 1;
    if (last >= 0 && until > at[last]) put(until, demand[last], ready[last], desired[last]);
    return columns;
  }

  range() {
    const until = this.points.until;
    const span = Math.min(this.seconds, Math.max(LEAST_SECONDS, until - this.points.at[0]));
    return [until - span, until];
  }

  size() {
    return { width: Math.max(240, this.place.clientWidth), height: this.place.clientWidth < 560 ? 220 : 280 };
  }

  rebuild() {
    if (!this.points.at.length) return;
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const font = `12px ${style.getPropertyValue("--font")}`;
    const axis = { stroke: color("muted"), font, ticks: { show: false }, grid: { stroke: color("grid"), width: 1 } };
    const narrow = this.place.clientWidth < 560;
    const steps = uPlot.paths.stepped({ align: 1 });
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        cursor: { points: { size: 7 }, drag: { x: false, y: false } },
        padding: [18, 8, 0, 8],
        scales: {
          x: { range: () => this.range() },
          demand: { range: (_, __, most) => [0, Math.max(10, (most ?? 0) * 1.12)] },
          workers: { range: (_, __, most) => [0, Math.max(this.bounds[1], most ?? 0) * 1.12] },
        },
        axes: [
          { ...axis, size: 24, gap: 3, grid: { show: false }, space: narrow ? 70 : 90, values: (_, ticks) => ticks.map((at) => clock(at, ticks)) },
          { ...axis, scale: "demand", size: narrow ? 44 : 56, label: narrow ? undefined : "demand", labelFont: font, labelSize: 18, values: (_, ticks) => ticks.map(compact) },
          { ...axis, scale: "workers", side: 1, size: narrow ? 30 : 40, label: narrow ? undefined : "workers", labelFont: font, labelSize: 18, grid: { show: false }, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500], values: (_, ticks) => ticks.map((tick) => number(tick)) },
        ],
        series: [
          {},
          { scale: "demand", stroke: color("demand"), fill: color("demand-fill"), width: 1.5, paths: steps, points: { show: false } },
          { scale: "workers", stroke: color("workers"), width: 2.5, paths: steps, points: { show: false } },
          { scale: "workers", stroke: color("desired"), width: 1.5, dash: [4, 4], paths: steps, points: { show: false } },
        ],
        hooks: { draw: [(plot) => this.decorate(plot, color)], setCursor: [(plot) => this.say(plot)] },
      },
      this.data(),
      this.place,
    );
  }

  /** Lines at the bounds, and a mark for each change. */
  decorate(plot, color) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = color("bound");
    ctx.lineWidth = ratio;
    ctx.setLineDash([2 * ratio, 4 * ratio]);
    for (const bound of this.bounds) {
      const y = Math.round(plot.valToPos(bound, "workers", true));
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.setLineDash([]);
    const size = 5 * ratio;
    for (const { at, up } of this.marks) {
      const x = plot.valToPos(at, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.fillStyle = color(up ? "up" : "down");
      ctx.strokeStyle = color(up ? "up" : "down");
      ctx.globalAlpha = 0.35;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.globalAlpha = 1;
      ctx.beginPath();
      const base = bbox.top - (up ? 2 : 11) * ratio;
      const tip = bbox.top - (up ? 11 : 2) * ratio;
      ctx.moveTo(x - size, base);
      ctx.lineTo(x + size, base);
      ctx.lineTo(x, tip);
      ctx.fill();
    }
    ctx.restore();
  }

  say(plot) {
    const index = plot.cursor.idx;
    if (index === null || index === undefined || plot.cursor.left < 0) {
      this.readout.textContent = "";
      return;
    }
    const value = (column) => (plot.data[column][index] === null || plot.data[column][index] === undefined ? "not known" : number(plot.data[column][index]));
    this.readout.textContent = `${time(plot.data[0][index])}  demand ${value(1)}, workers ready ${value(2)}, decided ${value(3)}`;
  }

  move(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -1e9, End: 1e9 }[event.key];
    if (!step || !this.plot) return;
    event.preventDefault();
    const times = this.plot.data[0];
    const [from] = this.range();
    const first = times.findIndex((at) => at >= from);
    const now = this.plot.cursor.left >= 0 ? this.plot.cursor.idx : null;
    const index = Math.min(times.length - 1, Math.max(first, (now ?? times.length) + step));
    this.plot.setCursor({ left: this.plot.valToPos(times[index], "x"), top: 20 });
  }
}

/** In shadow: where the wish changed. */
function wishes({ at, desired }) {
  const marks = [];
  for (let index = 1; index < at.length; index += 1) {
    const [before, now] = [desired[index - 1], desired[index]];
    if (now !== null && before !== null && now !== before) marks.push({ at: at[index], up: now > before });
  }
  return marks;
}

function compact(value) {
  if (value === null) return "";
  return value >= 10000 ? `${number(value / 1000)}k` : number(value);
}

function clock(at, ticks) {
  const text = time(at);
  return ticks.length > 1 && ticks[1] - ticks[0] < 60 ? text : text.slice(0, 5);
}
