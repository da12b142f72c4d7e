// Shows one task instance's export. All that is shown is read through Airflow's REST API in the user's own session.
// Names of files are anybody's text: they only ever become text nodes.
// What it reads of an XCom is described in status.schema.json, beside this file.
"use strict";

const STATUS = "sevenbridges_export_status";
const PROGRESS = "sevenbridges_export_progress";
// In place of a value that is there but means nothing to this page, such as a reference of an XCom backend.
const UNREADABLE = Symbol("unreadable");
const PAUSE = 3000;
const LONGEST_PAUSE = 30000;
const OVER = ["success", "failed", "skipped", "upstream_failed", "removed"];
const main = document.getElementById("main");
const query = new URLSearchParams(location.search);
const mapIndex = /^\d+$/.test(query.get("map_index") ?? "") ? Number(query.get("map_index")) : -1;

// Airflow's API

const part = (name) => encodeURIComponent(query.get(name) ?? "");
const instance = `dags/${part("dag_id")}/dagRuns/${part("run_id")}/taskInstances/${part("task_id")}`;

async function ask(path) {
  const answer = await fetch(new URL(`../api/v2/${path}`, location), {
    credentials: "same-origin",
    headers: { Accept: "application/json" },
    cache: "no-store",
  });
  if (answer.status === 404) return null;
  if (!answer.ok) throw Object.assign(new Error(`Airflow answered ${answer.status}.`), { status: answer.status });
  return answer.json();
}

async function xcoms() {
  // Which there are is asked first: asking for one that is not there would fill the console with errors.
  const found = await ask(`${instance}/xcomEntries?map_index=${mapIndex}&xcom_key_pattern=sevenbridges_export_&limit=100`);
  const keys = new Set((found?.xcom_entries ?? []).filter((entry) => entry.map_index === mapIndex).map((entry) => entry.key));
  return Promise.all([STATUS, PROGRESS].map((key) => (keys.has(key) ? xcom(key) : null)));
}

async function xcom(key) {
  const entry = await ask(`${instance}/xcomEntries/${key}?map_index=${mapIndex}&stringify=false`);
  let value = entry?.value;
  if (typeof value === "string") {
    try { value = JSON.parse(value); } catch { return UNREADABLE; }
  }
  return value && typeof value === "object" ? value : UNREADABLE;
}

// Elements

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

const known = (value) => value !== null && value !== undefined && value !== "";
const count = (number) => Number(number || 0).toLocaleString("en");

function bytes(size) {
  if (!known(size)) return null;
  if (size < 1000) return `${size} bytes`;
  const power = Math.min(Math.floor(Math.log10(size) / 3), 5);
  return `${(size / 1000 ** power).toFixed(1)} ${["kB", "MB", "GB", "TB", "PB"][power - 1]}`;
}

const time = (iso) => (known(iso) && !Number.isNaN(Date.parse(iso)) ? new Date(iso) : null);

function clock(when) {
  const today = when.toDateString() === new Date().toDateString();
  return when.toLocaleString([], { ...(today ? {} : { dateStyle: "medium" }), timeStyle: "medium" });
}

function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

function list(rows) {
  const made = element("dl");
  for (const [name, value, className] of rows) {
    if (known(value)) made.append(element("dt", "", name), element("dd", className ?? "", String(value)));
  }
  return made;
}

const card = (title, ...children) => element("section", "card", element("h2", "", title), ...children);

function head(kind, word, title, note) {
  return element(
    "header", "head",
    element("span", `pill ${kind}`, word),
    element("h1", "", title),
    note ? element("p", "quiet", note) : null,
  );
}

function notice(kind, title, ...lines) {
  return element(
    "section", `card notice ${kind}`,
    title ? element("strong", "", title) : null,
    ...lines.filter(known).map((line) => element("p", "", line)),
  );
}

// What is said

const OUTCOMES = {
  FAILED: ["bad", "Failed", "The Platform could not make the export"],
  REFUSED: ["bad", "Refused", "This export cannot be made as it was asked for"],
  IN_DOUBT: ["bad", "In doubt", "What became of the export is not known, so nothing more was asked for"],
  TIMEOUT: ["wait", "No longer waited for", "The time to wait is over, the export goes on"],
  ERROR: ["bad", "Failed", "The export could not be asked for or followed"],
};
const WORDS = {
  PENDING: ["wait", "Queued"],
  RUNNING: ["busy", "Running"],
  COMPLETED: ["good", "Done"],
  FAILED: ["bad", "Failed"],
  CHECKING: ["wait", "Checking"],
  DRY_RUN: ["good", "Dry run"],
};

function failure(error) {
  const [kind, , title] = OUTCOMES[error.outcome] ?? OUTCOMES.ERROR;
  const from = [
    known(error.code) ? `code ${error.code}` : "",
    known(error.http_status) ? `HTTP ${error.http_status}` : "",
    known(error.request_id) ? `request ${error.request_id}` : "",
  ].filter(known).join(", ");
  const made = notice(kind, title, ...String(error.message || "The Platform gave no reason.").split("\n"));
  if (known(error.advice)) made.append(element("p", "", element("strong", "", "What to do: "), error.advice));
  if (from) made.append(element("p", "foot", `The Platform's answer: ${from}`));
  if (known(error.more_info)) made.append(element("p", "foot", error.more_info));
  return made;
}

function options(status) {
  const words = [
    status.copy_only
      ? "Copied: the Platform keeps the file, and the bucket has it too."
      : "Moved: the file's bytes go to the bucket, and the Platform's copy becomes an alias of the object there.",
  ];
  if (status.overwrite) words.push("Overwrites: an object that is at the destination is deleted first.");
  else words.push("Overwrites nothing: an object that is at the destination stops the export.");
  return element("ul", "words", ...words.map((line) => element("li", "", line)));
}

function airflowNote(task, sameTry) {
  if (task.state === "up_for_retry") return "Airflow will try again. A retry looks for what this try did before it asks for anything.";
  if (["scheduled", "queued"].includes(task.state)) {
    return sameTry
      ? "The wait is over. Airflow has to give the task a worker for its last step."
      : "What you see is the try before. Airflow is about to start the next one.";
  }
  return null;
}

// A single export

function single(task, status, progress) {
  let state = status.state;
  const follows = progress && progress.export_id === status.export_id && known(progress.state);
  if (follows && ["PENDING", "RUNNING"].includes(state)) state = progress.state;
  const since = follows ? progress : {};
  const error = status.error;
  const file = status.file ?? {};
  const name = file.name ?? file.id ?? "a file";
  const sameTry = status.try_number === task.try_number;
  let [kind, word] = error ? OUTCOMES[error.outcome] ?? OUTCOMES.ERROR : WORDS[state] ?? ["", state || "Starting"];
  const place = status.uri ?? (known(status.volume) ? `${status.volume}/${status.location}` : "the volume");
  const verbs = status.copy_only ? ["Copy", "Copied", "Copying"] : ["Move", "Moved", "Moving"];
  let title = `${verbs[0]} ${name} to ${place}`;
  if (!error && state === "COMPLETED") title = `${verbs[1]} ${name} to ${place}`;
  if (!error && state === "RUNNING") title = `${verbs[2]} ${name} to ${place}`;
  let note = airflowNote(task, sameTry);
  const parts = [];
  const open = !error && ["PENDING", "RUNNING"].includes(state);
  if (open && task.state === "success") note = "This task only starts the export; another one waits for it.";
  if (open && task.state === "failed") {
    [kind, word] = OUTCOMES.TIMEOUT;
    parts.push(notice("wait", "The task has ended before its export", "The export goes on at the Platform, which has no cancel. A cleared task waits for it instead of starting another one."));
  }
  if (state === "CHECKING" && !error) {
    const until = time(status.check_again_at);
    note = `Looking again${until ? ` at ${clock(until)}` : ""}, so that nothing is exported twice.`;
  }
  if (state === "DRY_RUN") note = "Everything was checked, and nothing was changed.";
  parts.unshift(head(kind, word, title, note));
  if (error) parts.push(failure(error));
  if (known(status.export_id)) parts.push(element("section", "card", element("h2", "", "Timeline"), steps(state, status, since, error)));
  parts.push(element(
    "div", "cards",
    card("Source file", list([
      ["Name", file.name],
      ["Size", bytes(file.size)],
      ["Project", file.project],
      ["File id", file.id, "mono"],
    ])),
    card("Destination", list([
      ["Address", status.uri, "mono"],
      ["Volume", status.volume],
      ["Location", status.location, "mono"],
      ["Size there", bytes(status.size)],
      ["ETag", status.etag, "mono"],
    ])),
    known(status.copy_only) ? card("What happens to the file", options(status)) : null,
    card("Export job", list([
      ["Export id", status.export_id ?? (state === "COMPLETED" ? "not known any more" : null), "mono"],
      ["Begun", known(status.adopted) ? (status.adopted ? "taken over: it was there already" : "started by this task") : null],
      ["Why", status.why],
    ])),
  ));
  if (open && follows && known(progress.note) && !/ is (PENDING|RUNNING)\.$/.test(progress.note)) parts.push(element("p", "foot", `${clock(time(progress.at) ?? new Date())}: ${progress.note}`));
  return parts;
}

function steps(state, status, since, error) {
  const queued = time(status.submitted_at) ?? time(status.started_on);
  const ended = time(status.finished_on ?? since.finished_on);
  const began = time(status.started_on ?? since.started_on);
  const seen = time(since.at);
  const level = { PENDING: 0, RUNNING: 1, COMPLETED: 2, FAILED: 2 }[state] ?? 0;
  const failed = state === "FAILED" || error?.outcome === "FAILED";
  const step = (number, name, ...lines) => {
    const finished = level > number || (number === 2 && state === "COMPLETED");
    const now = level === number && !finished && !failed;
    const broken = failed && number === 2;
    return element(
      "li", broken ? "now broken" : finished || (failed && number < 2) ? "past" : now ? "now" : "",
      element("b", "", name), ...lines.filter(known).map((line) => element("span", "", line)),
    );
  };
  const running = level > 0 || failed;
  const whole = queued && ended ? `after ${span(ended - queued)}` : null;
  return element(
    "ol", "steps",
    step(0, "Queued", queued ? clock(queued) : null),
    step(1, "Running", running && level === 1 && seen ? `seen at ${clock(seen)}` : running && began ? `from ${clock(began)}` : null),
    step(2, failed ? "Failed" : "Done", [ended ? clock(ended) : "", whole ?? ""].filter(known).join(", ")),
  );
}

// Many exports

function many(task, status, progress) {
  const counts = { ...(status.counts ?? {}) };
  const newer = progress && known(progress.total) && (time(progress.at) ?? 0) > (time(status.at) ?? 0) && !OVER.includes(task.state);
  if (newer) {
    // The wait watches those in flight; what has ended among them is not in the task's own counts yet.
    for (const state of ["COMPLETED", "FAILED"]) {
      const ended = progress.counts?.[state] ?? 0;
      counts[state] = (counts[state] ?? 0) + ended;
      let left = ended;
      for (const from of ["RUNNING", "PENDING"]) {
        const taken = Math.min(left, counts[from] ?? 0);
        counts[from] = (counts[from] ?? 0) - taken;
        left -= taken;
      }
    }
  }
  const total = status.total ?? 0;
  const done = counts.COMPLETED ?? 0;
  const bad = (counts.FAILED ?? 0) + (counts.REFUSED ?? 0) + (counts.IN_DOUBT ?? 0);
  const skipped = counts.SKIPPED ?? 0;
  const unanswered = Math.min(status.unanswered ?? 0, counts.WAITING ?? 0);
  const left = (counts.WAITING ?? 0) - unanswered;
  // The Platform may come to use other states: what is in one of them was submitted and has not ended.
  const flying = Math.max(0, total - done - bad - skipped - (counts.WAITING ?? 0));
  const sameTry = status.try_number === task.try_number;
  const error = status.error;
  const over = OVER.includes(task.state) || task.state === "up_for_retry";
  let [kind, word] = ["busy", "Running"];
  if (error) [kind, word] = OUTCOMES[error.outcome] ?? OUTCOMES.ERROR;
  else if (status.state === "DRY_RUN") [kind, word] = WORDS.DRY_RUN;
  else if (bad && over) [kind, word] = ["bad", done ? "Partly failed" : "Failed"];
  else if (total && done + skipped === total) [kind, word] = WORDS.COMPLETED;
  else if (task.state === "failed") [kind, word] = OUTCOMES.TIMEOUT;
  else if (!total) [kind, word] = ["wait", "Starting"];
  const verb = status.copy_only ? "copied" : status.copy_only === false ? "moved" : "exported";
  const dry = status.state === "DRY_RUN";
  const title = dry ? `${count(total)} files would be ${verb}` : total ? `${count(done)} of ${count(total)} files ${verb}` : "No file yet";
  const note = dry ? "Everything was checked, and nothing was changed. The task's log lists the files." : airflowNote(task, sameTry);
  const parts = [head(kind, word, title, note)];
  if (error) parts.push(failure(error));
  if (over && !dry && flying) {
    parts.push(notice("wait", `${count(flying)} exports go on`, "The Platform has no cancel. A retry or a cleared task waits for them instead of starting others."));
  }
  if (over && !dry && unanswered) {
    parts.push(notice("wait", `${count(unanswered)} exports were submitted without a response`, "They may go on at the Platform. A retry or a cleared task checks for them before it submits anything."));
  }
  if (total && !dry) {
    const bar = element("div", "bar");
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-valuemin", "0");
    bar.setAttribute("aria-valuemax", String(total));
    bar.setAttribute("aria-valuenow", String(done));
    for (const [name, number] of [["good", done], ["bad", bad], ["busy", flying]]) {
      const piece = element("div", name);
      piece.style.width = `${(100 * number) / total}%`;
      if (number) piece.style.minWidth = "2px";
      bar.append(piece);
    }
    const figure = (value, name) => element("div", "", element("b", "", value), element("span", "", name));
    parts.push(element(
      "section", "card", bar,
      element(
        "div", "figures",
        figure(count(done), status.adopted ? `exported, ${count(status.adopted)} of them before` : "exported"),
        figure(count(bad), "failed"),
        skipped ? figure(count(skipped), "skipped") : null,
        figure(count(flying), "in flight"),
        unanswered ? figure(count(unanswered), "without a response") : null,
        figure(count(left), over ? "not submitted" : "still to submit"),
        known(status.bytes) ? figure(bytes(status.bytes), known(status.bytes_total) ? `of ${bytes(status.bytes_total)}` : "exported") : null,
      ),
    ));
  }
  const errors = Array.isArray(status.errors) ? status.errors : [];
  if (errors.length) {
    const rows = errors.map((each) => element(
      "tr", "",
      element("td", "", element("div", "", each.name ?? each.file), each.name ? element("div", "quiet mono", each.file) : null),
      element("td", "", each.message ?? "", known(each.code) ? element("div", "quiet", `${each.state}, code ${each.code}`) : element("div", "quiet", each.state ?? "")),
    ));
    const header = element("tr", "", element("th", "", "File"), element("th", "", "Why it was not exported"));
    parts.push(element(
      "section", "card",
      element("h2", "", errors.length < bad ? `Failed files, the first ${errors.length} of ${count(bad)}` : "Failed files"),
      element("table", "", element("thead", "", header), element("tbody", "", ...rows)),
    ));
  }
  parts.push(element(
    "div", "cards",
    card("From and to", list([
      ["From", status.source],
      ["Volume", status.volume],
      ["Address", status.uri, "mono"],
      ["Started", time(status.started_at) ? clock(time(status.started_at)) : null],
      ["Took", over && known(status.seconds) ? span(1000 * status.seconds) : null],
    ])),
    card("Manifest", known(status.manifest)
      ? element("div", "", element("div", "mono", status.manifest), element("p", "quiet", over ? "One line for each file: where it went, or why not." : "Written when the task ends."))
      : element("p", "quiet", "None was asked for. Give the operator ‘manifest’ a place to have every file written down.")),
    known(status.copy_only) ? card("What happens to the files", options(status)) : null,
  ));
  if (newer && known(progress.note)) parts.push(element("p", "foot", `${clock(time(progress.at) ?? new Date())}: ${progress.note}`));
  return parts;
}

// Only a wait: a sensor

function waiting(task, progress) {
  const ended = OVER.includes(task.state);
  const [kind, word] = ended ? (task.state === "success" ? WORDS.COMPLETED : ["bad", "Failed"]) : WORDS[progress.state] ?? ["busy", "Waiting"];
  if (!known(progress.total)) {
    return [
      head(kind, word, `Waiting for export ${progress.export_id}`, ended ? null : airflowNote(task, true)),
      card("Export job", list([["Export id", progress.export_id, "mono"], ["Seen", progress.note]])),
    ];
  }
  const counts = progress.counts ?? {};
  return [
    head(kind, word, `Waiting for ${count(progress.total)} exports`, ended ? null : airflowNote(task, true)),
    card("Seen so far", list([["Done", count(counts.COMPLETED)], ["Failed", count(counts.FAILED)], ["Running", count(counts.RUNNING)], ["Queued", count(counts.PENDING)]])),
  ];
}

// Nothing to show

function empty(task) {
  const ours = /^SevenBridges/.test(task.operator ?? task.operator_name ?? "");
  if (!ours) return [head("", "No export", "This task exports nothing", "This tab shows exports from the Seven Bridges Platform to a bucket.")];
  if (OVER.includes(task.state)) {
    return [head(task.state === "failed" ? "bad" : "", task.state === "failed" ? "Failed" : "Nothing to show", "The task has reported nothing of its export", "Its log says what happened.")];
  }
  return [head("wait", "No status yet", "This task has reported no status yet", "The export shows here as soon as the Platform has answered. The task's log says what happens until then.")];
}

function unreadable(task) {
  const note = "Airflow keeps it where this page cannot read it. The task's log says what happens to the export.";
  return [head("wait", OVER.includes(task.state) ? "Ended" : "Status unknown", "The status of this export cannot be read here", note)];
}

function refusal(error) {
  if (error.status === 401) return [head("", "Not logged in", "Log in to Airflow again to see this task")];
  if (error.status === 403) return [head("", "No access", "You may not see this task", "Ask whoever runs this Airflow for access to its Dag.")];
  return [head("wait", "No answer", "Airflow does not answer at the moment", "This page asks again by itself.")];
}

// The loop

let timer = null;
let shown = "";
let failures = 0;
let running = false;

function show(parts) {
  // Unchanged elements stay, so that marked text stays marked and a screen reader says nothing twice.
  const next = element("div", "", ...parts);
  if (next.innerHTML === shown) return;
  shown = next.innerHTML;
  main.replaceChildren(...next.childNodes);
}

async function look() {
  if (running) return;
  running = true;
  clearTimeout(timer);
  let again = true;
  try {
    const task = await ask(mapIndex >= 0 ? `${instance}/${mapIndex}` : instance);
    if (!task) {
      show([head("", "No task", "There is no such task, or you may not see it")]);
      again = false;
    } else {
      const values = await xcoms();
      const [status, progress] = values.map((value) => (value === UNREADABLE ? null : value));
      if (values[0] === UNREADABLE) show(unreadable(task));
      else if (status) show(status.kind === "bulk" ? many(task, status, progress) : single(task, status, progress));
      else if (progress) show(waiting(task, progress));
      else show(values.includes(UNREADABLE) ? unreadable(task) : empty(task));
      again = !OVER.includes(task.state);
    }
    failures = 0;
  } catch (error) {
    failures += 1;
    again = ![401, 403].includes(error.status);
    if (!again || failures > 1 || !shown) show(refusal(error));
  } finally {
    running = false;
  }
  if (again && !document.hidden) timer = setTimeout(look, Math.min(PAUSE * 2 ** failures, LONGEST_PAUSE));
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) look();
});

// Airflow's theme where it can be seen, else the system's

function theme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let outer = null;
  try {
    if (window.parent !== window) outer = window.parent.document.documentElement;
  } catch { outer = null; }
  const apply = () => {
    const said = outer && ["dark", "light"].find((name) => outer.classList.contains(name) || outer.dataset.theme === name);
    document.documentElement.dataset.theme = said ?? (system.matches ? "dark" : "light");
  };
  system.addEventListener("change", apply);
  if (outer) new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class", "data-theme"] });
  apply();
}

theme();
look();
