// What both pages share: the stream, the banner, how figures are written, and the head of the page.
// A figure that is not known is null in the data and a dash here, never 0.

const HIDDEN_MILLISECONDS = 30_000;
const AGAIN_MILLISECONDS = 2_000;

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") made.className = value;
    else if (name in made && !name.startsWith("aria") && name !== "role") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export const number = (value) => whole.format(value);
export const time = (at) => clock.format(new Date(at * 1000));
export const perSecond = (value) => `${value < 100 ? tenth.format(value) : whole.format(value)}/s`;

export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.floor(seconds / 60)} min${seconds < 600 ? ` ${Math.round(seconds % 60)} s` : ""}`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function latency(seconds) {
  const milliseconds = seconds * 1000;
  return milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${Math.round(milliseconds)} ms`;
}

/** Text of a figure: what is certain, else "≥ n", else a dash that screen readers hear as words. */
export function figure(value, atLeast = null, write = number) {
  if (value !== null && value !== undefined) return [write(value)];
  if (atLeast) return [`≥ ${write(atLeast)}`];
  return [element("span", { "aria-hidden": "true" }, "–"), element("span", { class: "hidden" }, "not known")];
}

/** Put children in place of the present ones, where they read differently. */
export function fill(parent, ...children) {
  const box = element("div", {}, ...children.filter((child) => child !== null));
  if (box.innerHTML !== parent.innerHTML) parent.replaceChildren(...box.childNodes);
}

export function chip(state) {
  return element("span", { class: `chip ${state.toLowerCase()}` }, state);
}

export function tags(pool) {
  const found = [];
  if (pool.mode === "shadow") found.push(element("span", { class: "tag" }, "shadow"));
  if (pool.otherScaler) found.push(element("span", { class: "tag" }, pool.otherScaler.split("/")[0].replace("HorizontalPodAutoscaler", "HPA")));
  return found;
}

/** Follow a stream of events; it comes back by itself, also where the server said no. */
export class Stream {
  constructor(address, handlers) {
    this.address = address;
    this.handlers = handlers;
    this.head = null;
    this.heardAt = null;
    this.connected = false;
    this.resting = false;
    this.ended = null;
    this.open();
    setInterval(() => this.look(), 500);
    // A browser has six connections for one host: a page that nobody sees must not keep one of them.
    addEventListener("pagehide", () => this.rest());
    addEventListener("pageshow", (event) => event.persisted && this.wake());
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.hidden);
      if (document.hidden) this.hidden = setTimeout(() => this.rest(), HIDDEN_MILLISECONDS);
      else this.wake();
    });
  }

  rest() {
    this.source.close();
    this.resting = true;
  }

  wake() {
    if (!this.resting) return;
    this.resting = false;
    if (this.heardAt !== null) this.heardAt = performance.now();
    this.open();
  }

  open() {
    if (this.ended) return;
    this.source?.close();
    const source = new EventSource(this.address());
    this.source = source;
    source.addEventListener("open", () => { this.connected = true; });
    source.addEventListener("error", () => {
      this.connected = false;
      // By itself it would ask the first address again, and get what is here already.
      source.close();
      if (source === this.source) setTimeout(() => this.resting || source !== this.source || this.open(), AGAIN_MILLISECONDS);
      this.look();
    });
    for (const [event, take] of Object.entries(this.handlers)) {
      source.addEventListener(event, (message) => {
        const document_ = JSON.parse(message.data);
        if (document_.at !== undefined) {
          this.head = document_;
          this.heardAt = performance.now();
        }
        take(document_);
        this.look();
      });
    }
  }

  /** The stream has nothing more to tell; `why` stays in the banner. */
  end(why) {
    this.ended = why;
    this.source.close();
    this.look();
  }

  look() {
    if (this.resting) return;
    const seconds = this.heardAt === null ? null : (performance.now() - this.heardAt) / 1000;
    banner(this.trouble(seconds));
    if (this.head) vitals(this.head, seconds ?? 0);
    document.body.classList.toggle("stale", this.stale(seconds) !== null);
  }

  stale(seconds) {
    const head = this.head;
    if (!head) return null;
    const patience = head.staleAfterSeconds;
    if (seconds > patience) return `No news from the scaler since ${time(head.at)}`;
    if (head.at !== null && (head.goodAt === null || head.at - head.goodAt > patience)) {
      const since = head.goodAt === null ? "yet" : `since ${time(head.goodAt)}`;
      return `Not read in full ${since}`;
    }
    return null;
  }

  trouble(seconds) {
    if (this.ended) return this.ended;
    const stale = this.stale(seconds);
    if (stale && seconds <= this.head.staleAfterSeconds) {
      return `${stale}: ${this.head.trouble ?? "the scaler does not say why"}. Workers are held where something is unknown.`;
    }
    if (stale) return `${stale}. What you see is from then; ${this.connected ? "it may hang" : "trying to reach it again"}.`;
    if (!this.head) return this.connected ? "" : "Waiting for the scaler…";
    if (this.head.at === null) return "The scaler has not finished its first tick yet.";
    if (!this.head.leading) return "This scaler only observes: another one holds the Lease and writes.";
    return "";
  }
}

function banner(text) {
  const place = $("banner");
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
}

function vitals(head, seconds) {
  const left = head.pollSeconds - (head.tickSeconds ?? 0) - seconds;
  const broker = head.broker;
  const parts = [];
  if (broker.up === null) parts.push(["off", "Broker not read yet"]);
  else if (broker.up) parts.push(["good", `Broker ${latency(broker.readSeconds)}`, `slowest read of the last minutes ${latency(broker.slowestReadSeconds)}`]);
  else parts.push(["bad", "Broker away", broker.message]);
  parts.push(["plain", left > -1 ? `Next poll in ${Math.max(0, left).toFixed(1)} s` : "Next poll is late"]);
  const items = parts.map(([kind, text, more]) =>
    element("li", { class: kind, title: more }, element("span", { class: "dot", "aria-hidden": "true" }), text));
  fill($("vitals"), ...items);
  const name = $("namespace");
  const where = head.stack ? `${head.stack} · ${head.namespace}` : head.namespace;
  if (name.textContent !== where) name.textContent = where;
  if (head.stack) name.title = `stack ${head.stack}, namespace ${head.namespace}`;
  links(head.links);
}

function links(found) {
  for (const [key, word] of [["stack", "Stack"], ["flower", "Flower"], ["grafana", "Grafana"]]) {
    if (!found[key] || $(`link-${key}`)) continue;
    $("json").before(element("a", { id: `link-${key}`, href: found[key], rel: "noreferrer" }, word));
  }
}

/** A line of the last hour: an SVG, so that sixty of them stay cheap. */
export function sparkline(values) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const most = Math.max(1, ...values.filter((value) => value !== null));
  svg.setAttribute("viewBox", `0 0 ${values.length} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  let shape = "";
  values.forEach((value, index) => {
    if (value === null) return;
    const height = value === 0 ? 0.6 : Math.max(1.2, (value / most) * 19);
    shape += `M${index} 20v${(-height).toFixed(1)}h1v${height.toFixed(1)}z`;
  });
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", shape);
  svg.append(path);
  return svg;
}
