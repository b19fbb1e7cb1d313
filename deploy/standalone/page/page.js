// The page asks the API like any other client. Names, results and logs are strangers' text: they only ever become text nodes.

const NAMESPACE = "/api/v1/namespaces/_";
const REFRESH_MS = 2000;
const ENTITIES_EVERY = 3; // refreshes
const PAGE = 200;
const MOST_ACTIVATIONS = 5000;
const RATE_POINTS = 60;
const LONGEST_CODE = 65536;
const STATUS = ["success", "application error", "developer error", "internal error"];
const TABS = ["packages", "triggers", "rules", "api"];
const KEY_PLACE = "owl-key";
const LOG_LINE = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})\d*Z\s+(stdout|stderr): ?([^]*)$/;

const $ = (id) => document.getElementById(id);

/** Lists by name, records by activation id; `fresh` is the newest answer of the server to each question. */
const state = {
  key: sessionStorage.getItem(KEY_PLACE) || document.querySelector("meta[name=owl-guest-key]").content,
  namespace: "",
  functions: [], packages: [], triggers: [], rules: [],
  activations: new Map(),
  loaded: false, // whether the lists above are the server's
  all: false, // whether the oldest activation is among them
  shown: PAGE,
  samples: [],
  tab: "", panel: null, opener: null,
  paused: false, round: 0, timer: 0,
  drafts: new Map(),
};

// ---- the API

class Refusal extends Error {
  constructor(status, message) { super(message); this.status = status; }
}
class Gone extends Error {}

/** The answer's JSON and status. Throws Refusal for a 4xx or 5xx without a record in it, Gone where no answer comes. */
async function ask(path, { method = "GET", body, timeout = 10000 } = {}) {
  const headers = state.key ? { Authorization: `Basic ${btoa(state.key)}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer, text;
  try {
    // "omit": else the browser itself would ask for a key when the server refuses one.
    answer = await fetch(path, { method, headers, body, credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(timeout) });
    text = await answer.text();
  } catch { throw new Gone(); }
  let value = text;
  try { value = JSON.parse(text); } catch { /* metrics are no JSON */ }
  if (!answer.ok && !value?.activationId) {
    const reason = value?.error ?? value;
    throw new Refusal(answer.status, typeof reason === "string" && reason ? reason : JSON.stringify(value, null, 2));
  }
  return { value, status: answer.status };
}

async function listing(collection) {
  const found = [];
  for (;;) {
    const { value } = await ask(`${NAMESPACE}/${collection}?limit=${PAGE}&skip=${found.length}`);
    found.push(...value);
    if (value.length < PAGE) return found.sort((a, b) => pathOf(a).localeCompare(pathOf(b)));
  }
}

const pathOf = (entity) => [...entity.namespace.split("/").slice(1), entity.name].join("/");
const escaped = (path) => path.split("/").map(encodeURIComponent).join("/");
const annotation = (entity, key) => entity.annotations?.find((pair) => pair.key === key)?.value;
/** `package/name` of what ran; triggers have no path. */
const ranPath = (record) => {
  const path = annotation(record, "path");
  return typeof path === "string" && path.includes("/") ? path.slice(path.indexOf("/") + 1) : record.name;
};
const statusOf = (record) => record.statusCode ?? Math.max(0, ["success", "application error", "action developer error", "whisk internal error"].indexOf(record.response?.status));

// ---- building the page

function el(tag, properties = {}, ...children) {
  const { class: name, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  if (name) made.className = name;
  made.append(...children.filter((child) => child !== null));
  return made;
}

function set(node, text, name) {
  if (node.textContent !== text) node.textContent = text;
  if (name !== undefined && node.className !== name) node.className = name;
}

/** Makes the rows of `body` those of `items`, and touches only what changed: nothing flickers, focus and selection stay. */
function reconcile(body, items, keyOf, make, fill) {
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  let place = body.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let row = old.get(key);
    if (row) old.delete(key);
    else { row = make(item); row.dataset.key = key; }
    fill(row, item);
    if (row === place) place = place.nextSibling;
    else body.insertBefore(row, place);
  }
  for (const row of old.values()) row.remove();
}

/** A row of `columns` cells whose first link is also where a click anywhere in the row leads. */
function row(classes, href, linked = 0) {
  const made = el("tr", href ? { class: "opens" } : {}, ...classes.map((name) => el("td", { class: name })));
  if (href) {
    made.cells[linked].append(el("a", { href }));
    made.addEventListener("click", (event) => { if (!event.target.closest("a") && !String(getSelection())) made.querySelector("a").click(); });
  }
  return made;
}

const toFunction = (path) => `#/function/${encodeURIComponent(path)}`;
const toActivation = (id) => `#/activation/${id}`;
const inMs = (ms) => ms == null ? "–" : ms < 10000 ? `${Math.round(ms)} ms` : ms < 120000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60000)} min ${Math.round(ms % 60000 / 1000)} s`;
const inMib = (mib) => mib >= 10240 ? `${(mib / 1024).toFixed(1)} GiB` : `${Math.round(mib)} MiB`;
const isToday = (date) => date.toDateString() === new Date().toDateString();
function moment(ms) {
  const date = new Date(ms);
  const time = date.toLocaleTimeString([], { hour12: false });
  return isToday(date) ? time : `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
}
/** Time of the day with milliseconds, of a moment in ISO form. */
function clock(iso) {
  const date = new Date(iso);
  return `${date.toLocaleTimeString([], { hour12: false })}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length ? (sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2) : null;
}
const pretty = (value) => JSON.stringify(value, null, 2) ?? "";

function badges(action) {
  const found = [];
  if (annotation(action, "exec") === "sequence") found.push("sequence");
  if (annotation(action, "conductor")) found.push("conductor");
  if (annotation(action, "web-export")) found.push(annotation(action, "require-whisk-auth") ? "web, with key" : "web");
  return found;
}

// ---- what is shown

function showPlatform(text) {
  const figures = new Map();
  for (const line of text.split("\n")) {
    const at = line.lastIndexOf(" ");
    if (line[0] !== "#" && at > 0) figures.set(line.slice(0, at), Number(line.slice(at)));
  }
  const pool = (name) => figures.get(`gauge_containerPool_${name}Count_counter`) ?? 0;
  const paused = Math.min(pool("paused"), pool("idles"));
  const byState = { busy: pool("active"), warm: pool("idles") - paused, paused, stem: pool("prewarm") };
  const total = Object.values(byState).reduce((a, b) => a + b, 0);
  set($("containers"), String(total));
  set($("containers-by-state"), Object.entries(byState).map(([name, count]) => `${count} ${name === "stem" ? "stem cells" : name}`).join(" · "));
  reconcile($("containers-bar"), Object.entries(byState).filter(([, count]) => count), ([name]) => name, ([name]) => el("i", { class: name }), (bar, [, count]) => { bar.style.width = `${100 * count / total}%`; });

  const used = figures.get("gauge_invoker_memoryInUse_counter"), most = figures.get("gauge_invoker_memoryTotal_counter");
  set($("memory"), used === undefined ? "–" : inMib(used));
  $("memory-bar").style.width = most ? `${Math.min(100, 100 * used / most)}%` : "0";
  set($("memory-total"), most ? `of ${inMib(most)} for functions` : "\u00a0");

  const count = figures.get("counter_loadbalancer_activations_counter_total") ?? 0;
  const now = performance.now();
  const last = state.samples.at(-1);
  if (last && count < last.count) { // another server, which counts from zero and may know nothing of what ran before
    state.samples = [];
    state.activations.clear();
    state.all = false;
  }
  const rate = last && count >= last.count && now > last.now ? 1000 * (count - last.count) / (now - last.now) : null;
  state.samples = [...state.samples, { now, count, rate }].slice(-RATE_POINTS);
  set($("rate"), rate === null ? "–" : rate >= 100 ? String(Math.round(rate)) : rate.toFixed(1));
  set($("rate-total"), `${count} since the server started`);
  const rates = state.samples.map((sample) => sample.rate).filter((value) => value !== null);
  const highest = Math.max(1, ...rates);
  $("rate-line").firstElementChild.setAttribute("points", rates.map((value, i) => `${120 - 120 * (rates.length - 1 - i) / (RATE_POINTS - 1)},${23 - 22 * value / highest}`).join(" "));

  set($("running"), String(figures.get("gauge_loadbalancer_activationsInflight_counter") ?? "–"));
  set($("waiting"), `${pool("runBuffer")} waiting for a container`);
  const starts = (name) => figures.get(`counter_invoker_${name}Starts_total`) ?? 0;
  set($("starts"), `starts: ${starts("warm")} warm · ${starts("prewarmed")} from stem cells · ${starts("cold")} cold`);
}

function newestFirst() {
  return [...state.activations.values()].sort((a, b) => b.start - a.start || (a.activationId < b.activationId ? 1 : -1));
}

function showFunctions(records) {
  const calls = new Map();
  for (const record of records) {
    const path = ranPath(record);
    calls.has(path) ? calls.get(path).push(record) : calls.set(path, [record]);
  }
  const sought = $("name-filter").value.trim().toLowerCase();
  const chosen = state.functions.filter((action) => pathOf(action).toLowerCase().includes(sought));
  reconcile($("functions"), chosen, pathOf,
    (action) => {
      const made = row(["name", "least", "number least", "number less", "less", "number", "", "number"], toFunction(pathOf(action)));
      made.cells[0].append(el("span"));
      return made;
    },
    (made, action) => {
      const path = pathOf(action), own = calls.get(path) ?? [];
      const [name, kind, memory, timeout, version, count, last, middle] = made.cells;
      set(name.firstChild, path);
      reconcile(name.lastChild, badges(action), String, (text) => el("span", { class: "badge" }, text), () => {});
      set(kind, annotation(action, "exec") ?? "–");
      set(memory, `${action.limits?.memory ?? "–"} MB`);
      set(timeout, `${(action.limits?.timeout ?? 0) / 1000} s`);
      set(version, action.version);
      set(count, String(own.length || "–"));
      set(last, own.length ? STATUS[statusOf(own[0])] : "–", own.length ? `status s${statusOf(own[0])}` : "quiet");
      set(middle, inMs(median(own.map((record) => record.duration).filter((ms) => ms != null))));
      made.classList.toggle("open", state.panel?.kind === "function" && state.panel.name === path);
    });
  $("functions-empty").hidden = !state.loaded || !!state.functions.length;
  $("functions-none").hidden = !state.functions.length || !!chosen.length;
}

function showActivations(records) {
  const sought = $("name-filter").value.trim().toLowerCase(), status = $("status-filter").value;
  const matching = records.filter((record) => ranPath(record).toLowerCase().includes(sought) && (
    status === "" || (status === "failed" ? statusOf(record) > 0 : status === "cold" ? annotation(record, "initTime") !== undefined : statusOf(record) === Number(status))));
  const shown = matching.slice(0, state.shown);
  const longest = Math.max(1, ...shown.map((record) => record.duration ?? 0));
  reconcile($("activations"), shown, (record) => record.activationId,
    (record) => {
      const made = row(["", "name", "", "least", "number less", "number less", "number", "bars least"], toActivation(record.activationId), 1);
      const init = annotation(record, "initTime");
      const [time, name, result, start, wait, initTime, duration, bars] = made.cells;
      set(time, moment(record.start));
      time.title = new Date(record.start).toLocaleString();
      set(name.firstChild, ranPath(record));
      name.title = record.activationId;
      set(result, STATUS[statusOf(record)], `status s${statusOf(record)}`);
      set(start, annotation(record, "kind") === undefined || annotation(record, "topmost") ? "–" : init === undefined ? "warm" : "cold");
      set(wait, inMs(annotation(record, "waitTime")));
      set(initTime, inMs(init));
      set(duration, inMs(record.duration));
      bars.append(el("div", { class: "bar" }, el("i", { class: "init" }), el("i", { class: "run" })));
      return made;
    },
    (made, record) => { // a record never changes, but the longest beside it does
      const [init, run] = made.lastChild.firstChild.children, duration = record.duration ?? 0;
      const part = Math.min(duration, annotation(record, "initTime") ?? 0);
      init.style.width = `${100 * part / longest}%`;
      run.style.width = `${100 * (duration - part) / longest}%`;
      run.hidden = record.duration == null;
      made.classList.toggle("open", state.panel?.name === record.activationId);
    });
  $("activations-empty").hidden = !state.loaded || !!records.length;
  $("activations-none").hidden = !records.length || !!shown.length;
  $("older").hidden = !records.length || (state.all && matching.length <= state.shown);
  set($("activations-count"), shown.length < records.length ? `${shown.length} of ${records.length}` : "");
}

function showEntities() {
  const inPackage = (path) => state.functions.filter((action) => pathOf(action).startsWith(`${path}/`)).length;
  const updated = (entity) => entity.updated ? moment(entity.updated) : "–";
  reconcile($("packages"), state.packages, pathOf, () => row(["name", "", "number", "least", "least", "less"]), ({ cells }, entity) => {
    const bound = entity.binding?.name ? `/${entity.binding.namespace}/${entity.binding.name}` : "–";
    [pathOf(entity), bound, bound === "–" ? String(inPackage(entity.name)) : "–", entity.publish ? "yes" : "no", entity.version, updated(entity)].forEach((text, i) => set(cells[i], text));
  });
  const records = newestFirst();
  reconcile($("triggers"), state.triggers, pathOf, () => row(["name", "number", "", "least", "less"]), ({ cells }, entity) => {
    const fired = records.filter((record) => record.name === entity.name && annotation(record, "kind") === undefined && annotation(record, "path") === undefined);
    [entity.name, String(fired.length || "–"), fired.length ? moment(fired[0].start) : "–", entity.version, updated(entity)].forEach((text, i) => set(cells[i], text));
  });
  reconcile($("rules"), state.rules, pathOf, () => row(["name", "", "", "", "least", "less"]), ({ cells }, entity) => {
    const whole = (part) => part ? [...part.path.split("/").slice(1), part.name].join("/") : "–";
    [entity.name, entity.status ?? "…", whole(entity.trigger), whole(entity.action), entity.version, updated(entity)].forEach((text, i) => set(cells[i], text));
    cells[1].className = entity.status === "active" ? "status s0" : "status";
  });
  for (const name of ["packages", "triggers", "rules"]) $(`${name}-empty`).hidden = !state.loaded || !!state[name].length;
  for (const count of document.querySelectorAll("[data-count]")) set(count, state.loaded ? String(state[count.dataset.count].length) : "");
}

function show() {
  const records = newestFirst();
  showFunctions(records);
  showActivations(records);
  showEntities();
  if (state.panel?.kind === "function") showRecent(records);
}

// ---- the panel

function facts(pairs) {
  return el("dl", {}, ...pairs.filter(([, value]) => value != null && value !== "").flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function logLines(lines) {
  const pre = el("pre");
  for (const line of lines) {
    const [, time, stream, text] = LOG_LINE.exec(line) ?? [];
    if (time) pre.append(el("span", { class: "time" }, `${clock(`${time}Z`)} `), el("span", { class: stream === "stderr" ? "err" : "" }, text), "\n");
    else if (/^[0-9a-f]{32}$/.test(line)) pre.append(el("a", { href: toActivation(line) }, line), "\n"); // a part of a sequence
    else pre.append(line, "\n");
  }
  return pre;
}

function folded(title, value) {
  const pre = el("pre");
  const made = el("details", {}, el("summary", {}, title), pre);
  made.addEventListener("toggle", async () => { if (made.open && !pre.textContent) set(pre, await value()); });
  return made;
}

async function openActivation(id, isCurrent) {
  const { value: record } = await ask(`${NAMESPACE}/activations/${encodeURIComponent(id)}`);
  if (!isCurrent()) return;
  const status = statusOf(record), init = annotation(record, "initTime"), limits = annotation(record, "limits");
  const path = ranPath(record), known = state.functions.some((action) => pathOf(action) === path);
  set($("panel-title"), path);
  $("panel-body").replaceChildren(
    facts([
      ["Status", el("span", { class: `status s${status}` }, annotation(record, "timeout") === true ? `${STATUS[status]}: out of time` : STATUS[status])],
      ["Activation", el("span", { class: "mono" }, record.activationId)],
      ["Function", known ? el("a", { href: toFunction(path) }, `${path} ${record.version}`) : null],
      ["Began", new Date(record.start).toLocaleString()],
      ["Kind", annotation(record, "kind")],
      ["Start", annotation(record, "kind") === undefined || annotation(record, "topmost") ? null : init === undefined ? "warm" : `cold, init ${inMs(init)}`],
      ["Waited", annotation(record, "waitTime") === undefined ? null : inMs(annotation(record, "waitTime"))],
      ["Duration", record.duration == null ? null : inMs(record.duration)],
      ["Limits", limits ? `${limits.memory} MB, ${limits.timeout / 1000} s` : null],
      ["Caused by", record.cause ? el("a", { href: toActivation(record.cause), class: "mono" }, record.cause) : null],
    ]),
    el("h3", {}, record.response.size ? `Result (${record.response.size} bytes)` : "Result"),
    el("pre", { class: status ? "err" : "" }, pretty(record.response.result)),
    el("h3", {}, "Logs"),
    record.logs.length ? logLines(record.logs) : el("p", { class: "quiet" }, "It printed nothing."),
    folded("Whole record", async () => pretty(record)),
  );
}

async function openFunction(path, isCurrent) {
  const { value: action } = await ask(`${NAMESPACE}/actions/${escaped(path)}?code=false`);
  if (!isCurrent()) return;
  const resources = annotation(action, "resources");
  const web = annotation(action, "web-export");
  const webPath = `/api/v1/web/${escaped(`${action.namespace.split("/")[0]}/${path.includes("/") ? path : `default/${path}`}`)}.json`;
  set($("panel-title"), path);
  $("panel-body").replaceChildren(
    facts([
      ["Kind", action.exec.kind + (action.exec.main ? `, ${action.exec.main}()` : "")],
      ["Made of", action.exec.components ? action.exec.components.join(" → ") : action.exec.image],
      ["Version", `${action.version}, ${moment(action.updated)}`],
      ["Limits", `${action.limits.memory} MB, ${action.limits.timeout / 1000} s, ${action.limits.logs} MB of logs` + (action.limits.concurrency > 1 ? `, ${action.limits.concurrency} at once` : "")],
      ["Resources", resources && typeof resources === "object" ? Object.entries(resources).map(([name, value]) => `${name} ${value}`).join(", ") : null],
      // noopener: what this opens gets no copy of this tab's key.
      ["Web", web ? el("a", { href: webPath, target: "_blank", rel: "noopener noreferrer" }, webPath) : null],
    ]),
    invokeBox(path),
    el("h3", {}, "Last activations"),
    el("ul", { id: "recent" }),
    folded("Parameters and annotations", async () => pretty({ parameters: action.parameters, annotations: action.annotations })),
    ...action.exec.components ? [] : [folded("Code", () => codeOf(path))],
  );
  showRecent(newestFirst());
}

async function codeOf(path) {
  try {
    const { exec } = (await ask(`${NAMESPACE}/actions/${escaped(path)}`, { timeout: 60000 })).value;
    if (exec.binary || !exec.code) return exec.code ? `${Math.round(exec.code.length * 3 / 4)} bytes, not text` : "none";
    return exec.code.length > LONGEST_CODE ? `${exec.code.slice(0, LONGEST_CODE)}\n… and ${exec.code.length - LONGEST_CODE} more characters` : exec.code;
  } catch (error) { return spoken(error); }
}

function invokeBox(path) {
  const input = el("textarea", { id: "parameters", spellcheck: false, value: state.drafts.get(path) ?? "{}" });
  const button = el("button", { class: "main", type: "submit" }, "Invoke");
  const outcome = el("div", { role: "status" });
  const form = el("form", {},
    el("h3", {}, el("label", { htmlFor: "parameters" }, "Parameters, a JSON object")), input,
    el("div", { class: "buttons" }, el("span", { class: "quiet" }, "Ctrl+Enter"), button), outcome);
  input.addEventListener("input", () => state.drafts.set(path, input.value));
  input.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    outcome.replaceChildren(el("p", { class: "quiet" }, "running …"));
    outcome.replaceChildren(...await invoke(path, input.value));
    button.disabled = false;
    refresh();
  });
  return form;
}

async function invoke(path, text) {
  const told = (reason) => [el("p", { class: "err" }, reason)];
  let parameters;
  try { parameters = JSON.parse(text.trim() || "{}"); } catch (error) { return told(`This is not JSON: ${error.message}`); }
  if (parameters === null || typeof parameters !== "object" || Array.isArray(parameters)) return told('Parameters are a JSON object, such as {"name": "Owl"}.');
  try {
    const { value, status } = await ask(`${NAMESPACE}/actions/${escaped(path)}?blocking=true`, { method: "POST", body: JSON.stringify(parameters), timeout: 75000 });
    if (status === 202) return [el("p", {}, "It still runs: its record will appear below as ", el("span", { class: "mono" }, value.activationId), ".")];
    if (!value?.response) return [el("pre", {}, pretty(value))]; // an array comes without its record
    return [
      el("p", {}, el("span", { class: `status s${statusOf(value)}` }, STATUS[statusOf(value)]), ` in ${inMs(value.duration)} · `, el("a", { href: toActivation(value.activationId) }, "record and logs")),
      el("pre", { class: value.response.success ? "" : "err" }, pretty(value.response.result)),
    ];
  } catch (error) { return told(spoken(error)); }
}

function showRecent(records) {
  const list = $("recent");
  if (!list) return;
  const own = records.filter((record) => ranPath(record) === state.panel.name).slice(0, 8);
  reconcile(list, own, (record) => record.activationId,
    (record) => el("li", {}, el("a", { href: toActivation(record.activationId) }, moment(record.start)), el("span", { class: `status s${statusOf(record)}` }, STATUS[statusOf(record)]), el("span", { class: "grow" }, inMs(record.duration))),
    () => {});
  if (!own.length) list.replaceChildren(el("li", { class: "quiet" }, "none yet"));
}

const PANELS = { function: openFunction, activation: openActivation };

async function openPanel(panel) {
  state.panel = panel;
  $("panel").hidden = !panel;
  if (!panel) {
    state.opener?.isConnected && state.opener.focus({ preventScroll: true });
    return;
  }
  set($("panel-title"), panel.name);
  $("panel-body").replaceChildren();
  $("panel").scrollTop = 0;
  $("panel-title").focus({ preventScroll: true });
  if (!state.namespace) await refreshing; // who is asking is not known yet
  if (state.panel !== panel || !state.namespace) return;
  try {
    await PANELS[panel.kind](panel.name, () => state.panel === panel);
  } catch (error) {
    if (state.panel === panel) $("panel-body").replaceChildren(el("p", { class: "err" }, spoken(error)));
  }
}

// ---- asking again and again

function spoken(error) {
  if (error instanceof Gone) return "No answer from the server.";
  if (error instanceof Refusal) return error.message;
  throw error;
}

async function refreshOnce() {
  const entitiesToo = state.round++ % ENTITIES_EVERY === 0;
  if (!state.namespace) {
    if (!state.key) throw new Refusal(401, "");
    state.namespace = (await ask("/api/v1/namespaces")).value[0];
    set($("user"), state.namespace);
    $("user").hidden = false;
  }
  const key = state.key;
  const [metrics, records, ...lists] = await Promise.all([
    ask("/metrics"),
    ask(`${NAMESPACE}/activations?limit=${PAGE}`),
    ...(entitiesToo ? ["actions", "packages", "triggers", "rules"].map(listing) : []),
  ]);
  if (key !== state.key) return; // another user's answers
  showPlatform(metrics.value);
  keep(records.value);
  if (entitiesToo) {
    state.loaded = true;
    [state.functions, state.packages, state.triggers] = lists;
    const known = new Map(state.rules.map((rule) => [rule.name, rule.status]));
    state.rules = lists[3].map((rule) => ({ status: known.get(rule.name), ...rule }));
    if (state.tab === "rules") { // the list does not tell whether a rule is active
      state.rules = await Promise.all(state.rules.map(async (rule) => ({ ...rule, status: (await ask(`${NAMESPACE}/rules/${escaped(rule.name)}`)).value.status })));
    }
  }
  show();
}

function keep(records) {
  if (records.length < PAGE) state.all = true;
  for (const record of records) state.activations.set(record.activationId, record);
  if (state.activations.size > MOST_ACTIVATIONS) {
    state.activations = new Map(newestFirst().slice(0, MOST_ACTIVATIONS / 2).map((record) => [record.activationId, record]));
    state.all = false;
  }
}

function connection(text, name, problem = "") {
  set($("connection"), text, `connection ${name}`);
  document.body.classList.toggle("stale", name === "gone");
  set($("problem"), problem);
  $("problem").hidden = !problem;
}

let refreshing = null;
/** Asks now, and then every REFRESH_MS while somebody can see it; at most one round at a time. */
function refresh() {
  clearTimeout(state.timer);
  refreshing ??= refreshOnce().then(
    () => connection(state.paused ? "paused" : "live", state.paused ? "paused" : "live"),
    (error) => {
      state.round = 0;
      if (error instanceof Refusal && error.status === 401) { connection("no key", "gone"); askForKey(state.key ? "The server does not accept the key that was used." : "This server's guest has a key of its own, so this page needs one to show anything."); }
      else if (error instanceof Gone) connection("server gone", "gone", `No answer from ${location.host}; trying again every ${REFRESH_MS / 1000} s. If it was stopped, start it: owl up`);
      else if (error instanceof Refusal) connection(`refused (${error.status})`, "gone", `The server answered ${error.status}: ${error.message}`);
      else { connection("defect", "gone", `This page failed: ${error.message}`); console.error(error); }
    },
  ).finally(() => {
    refreshing = null;
    if (!state.paused && !document.hidden && !$("entry").open) state.timer = setTimeout(refresh, REFRESH_MS);
  });
}

function askForKey(why) {
  set($("entry-why"), why);
  $("entry-cancel").hidden = !state.namespace;
  if (!$("entry").open) $("entry").showModal();
}

function forget() {
  Object.assign(state, { namespace: "", functions: [], packages: [], triggers: [], rules: [], activations: new Map(), loaded: false, all: false, shown: PAGE, round: 0 });
  $("user").hidden = true;
}

// ---- the reader's doings

function route() {
  let parts;
  try { parts = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent); } catch { parts = [""]; }
  const [first, name] = parts;
  const panel = first in PANELS && name ? { kind: first, name } : null;
  if (!panel) state.tab = TABS.includes(first) ? first : "";
  for (const tab of document.querySelectorAll("nav a")) {
    tab.dataset.tab === state.tab ? tab.setAttribute("aria-current", "page") : tab.removeAttribute("aria-current");
    $(`view-${tab.dataset.tab}`).hidden = tab.dataset.tab !== state.tab;
  }
  if (state.tab === "api") showApi();
  if (state.tab === "rules") { state.round = 0; refresh(); }
  if (panel || state.panel) openPanel(panel);
  show();
}

async function showApi() {
  if ($("api").children.length) return;
  let paths;
  try { ({ paths } = (await ask("/api/v1/api-docs")).value); } catch (error) { $("api").replaceChildren(spoken(error)); return; }
  const groups = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, { tags: [tag], summary, parameters }] of Object.entries(methods)) {
      groups.has(tag) || groups.set(tag, []);
      const query = parameters.filter((parameter) => parameter.in === "query").map((parameter) => parameter.name);
      groups.get(tag).push(el("tr", {},
        el("td", {}, method.toUpperCase()), el("td", { class: "mono" }, `/api/v1${path}`),
        el("td", { class: "quiet" }, summary, query.length ? el("span", { class: "mono" }, `  ?${query.join("&")}`) : null)));
    }
  }
  $("api").replaceChildren(...[...groups].flatMap(([tag, rows]) => [el("h3", {}, tag), el("table", {}, el("tbody", {}, ...rows))]));
}

async function older() {
  const oldest = newestFirst().at(-1);
  state.shown += PAGE;
  try { if (!state.all) keep((await ask(`${NAMESPACE}/activations?limit=${PAGE}&upto=${oldest.start - 1}`)).value); } catch (error) { connection("refused", "gone", spoken(error)); }
  show();
}

function close() { location.hash = state.tab ? `#/${state.tab}` : "#/"; }

set($("host"), location.host);
document.title = `Owl – ${location.host}`;
$("name-filter").addEventListener("input", show);
$("status-filter").addEventListener("change", show);
$("older").addEventListener("click", older);
$("close").addEventListener("click", close);
$("user").addEventListener("click", () => askForKey(`You are ${state.namespace}.`));
$("entry-cancel").addEventListener("click", () => $("entry").close());
$("entry").addEventListener("close", async () => { refresh(); await refreshing; route(); });
$("entry").addEventListener("cancel", (event) => { if (!state.namespace) event.preventDefault(); });
$("entry-form").addEventListener("submit", (event) => {
  const key = $("entry-key").value.trim();
  if (!/^[\x21-\x7e]+:[\x21-\x7e]+$/.test(key)) {
    event.preventDefault();
    set($("entry-why"), "A key has the form uuid:key.");
    return;
  }
  forget();
  state.key = key;
  sessionStorage.setItem(KEY_PLACE, key);
  $("entry-key").value = "";
});
$("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", String(state.paused));
  set($("pause"), state.paused ? "Resume" : "Pause");
  connection(state.paused ? "paused" : "live", state.paused ? "paused" : "live");
  if (!state.paused) refresh();
});
document.addEventListener("click", (event) => { state.opener = event.target.closest("main a") ?? state.opener; }, true);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.panel && !$("entry").open) close();
  if (event.key === "/" && !event.target.closest("input, textarea, select") && !$("entry").open) { event.preventDefault(); $("name-filter").focus(); }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && !state.paused) refresh(); });
addEventListener("hashchange", route);
refresh();
route();
