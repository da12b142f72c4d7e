// Shows the status of one task instance, read from its XComs through Airflow's REST API in the user's session.
// Other people write the file names and messages: they become text nodes only, never HTML.
// status.schema.json, beside this file, describes the XComs.
"use strict";

const STATUS = "sevenbridges_status";
const PROGRESS = "sevenbridges_progress";
// Stands for an XCom that exists but has no readable value, such as the reference that an XCom backend stores.
const UNREADABLE = Symbol("unreadable");
const POLL_INTERVAL = 3000;
const MAX_POLL_INTERVAL = 30000;
const FINISHED = ["success", "failed", "skipped", "upstream_failed", "removed"];
const main = document.getElementById("main");
const query = new URLSearchParams(location.search);
const mapIndex = /^\d+$/.test(query.get("map_index") ?? "") ? Number(query.get("map_index")) : -1;

// Airflow's API

const part = (name) => encodeURIComponent(query.get(name) ?? "");
const instance = `dags/${part("dag_id")}/dagRuns/${part("run_id")}/taskInstances/${part("task_id")}`;

async function get(path) {
  const response = await fetch(new URL(`../api/v2/${path}`, location), {
    credentials: "same-origin",
    headers: { Accept: "application/json" },
    cache: "no-store",
  });
  if (response.status === 404) return null;
  if (!response.ok) throw Object.assign(new Error(`Airflow returned ${response.status}.`), { status: response.status });
  return response.json();
}

async function xcoms() {
  // The list comes first, because a request for a missing XCom would put an error into the browser's console.
  const found = await get(`${instance}/xcomEntries?map_index=${mapIndex}&xcom_key_pattern=sevenbridges_&limit=100`);
  const keys = new Set((found?.xcom_entries ?? []).filter((entry) => entry.map_index === mapIndex).map((entry) => entry.key));
  return Promise.all([STATUS, PROGRESS].map((key) => (keys.has(key) ? xcom(key) : null)));
}

async function xcom(key) {
  const entry = await get(`${instance}/xcomEntries/${key}?map_index=${mapIndex}&stringify=false`);
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

// The pill and the job's card show these already.
const isPlainState = (note) => /^(Export|Task) \S+ is [A-Z_]+(: .*)?\.$/s.test(note ?? "");
const known = (value) => value !== null && value !== undefined && value !== "";
const count = (number) => Number(number || 0).toLocaleString("en");

function bytes(size) {
  if (!known(size)) return null;
  if (size < 1000) return `${size} bytes`;
  const power = Math.min(Math.floor(Math.log10(size) / 3), 5);
  const number = size / 1000 ** power;
  return `${number.toFixed(number < 10 ? 2 : 1)} ${["kB", "MB", "GB", "TB", "PB"][power - 1]}`;
}

const plural = (number, one, many) => `${count(number)} ${Number(number) === 1 ? one : many}`;
const time = (iso) => (known(iso) && !Number.isNaN(Date.parse(iso)) ? new Date(iso) : null);

// The time zone that the user has chosen in Airflow, or the browser's.
function zone() {
  try {
    const chosen = JSON.parse(localStorage.getItem("timezone"));
    return new Intl.DateTimeFormat("en", { timeZone: chosen ?? undefined }).resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}

// A date, a time and a zone, such as 2026-11-24 14:11:25 UTC.
function datetime(when) {
  const digits = Object.fromEntries(["month", "day", "hour", "minute", "second"].map((name) => [name, "2-digit"]));
  const format = new Intl.DateTimeFormat("en", {
    ...digits, year: "numeric", hourCycle: "h23", timeZone: zone(), timeZoneName: "short",
  });
  const parts = Object.fromEntries(format.formatToParts(when).map(({ type, value }) => [type, value]));
  return `${parts.year}-${parts.month}-${parts.day} ${parts.hour}:${parts.minute}:${parts.second} ${parts.timeZoneName}`;
}

// As people say it, in its two largest units: 2 minutes, 1 hour 5 minutes.
function duration(milliseconds) {
  let seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 1) return "less than 1 second";
  const words = [];
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]) {
    const number = Math.floor(seconds / length);
    seconds -= number * length;
    if (number && words.length < 2) words.push(plural(number, unit, `${unit}s`));
    else if (words.length) break;
  }
  return words.join(" ");
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

// States and errors

const OUTCOMES = {
  FAILED: ["bad", "Failed", (job) => `The ${job.name} failed`],
  REFUSED: ["bad", "Rejected", () => "The request was rejected"],
  IN_DOUBT: ["bad", "In doubt", (job) => `The state of the ${job.name} is unknown`],
  TIMEOUT: ["wait", "Timed out", (job) => `The Airflow task timed out before the ${job.name} completed`],
  ERROR: ["bad", "Failed", (job) => `The Airflow task failed before the ${job.name} completed`],
};
const WORDS = {
  DRAFT: ["wait", "Draft"],
  CREATING: ["wait", "Starting"],
  PENDING: ["wait", "Queued"],
  QUEUED: ["wait", "Queued"],
  RUNNING: ["busy", "Running"],
  COMPLETED: ["good", "Completed"],
  ABORTING: ["wait", "Aborting"],
  ABORTED: ["bad", "Aborted"],
  FAILED: ["bad", "Failed"],
  CHECKING: ["wait", "Checking"],
  DRY_RUN: ["good", "Dry run"],
};
const OPEN = ["DRAFT", "CREATING", "PENDING", "QUEUED", "RUNNING", "ABORTING"];
const PROPERTIES = {
  sse_algorithm: "Encryption",
  sse_aws_kms_key_id: "KMS key",
  aws_canned_acl: "Canned ACL",
  aws_storage_class: "Storage class",
};
const FILE_STATES = { FAILED: "Failed", REFUSED: "Rejected", IN_DOUBT: "In doubt" };
const NO_CANCEL = "The Platform API cannot cancel exports.";

// Pill and word of an error; an aborted job did not fail by itself.
const outcome = (error, state) => (state === "ABORTED" && error.outcome === "FAILED" ? WORDS.ABORTED : OUTCOMES[error.outcome] ?? OUTCOMES.ERROR);

function failure(error, job, state) {
  const [kind, , title = () => `The ${job.name} was aborted`] = outcome(error, state);
  const box = notice(kind, title(job), ...String(error.reason || "The Platform gave no reason.").split("\n"));
  if (known(error.remedy)) box.append(element("p", "", element("strong", "", "What to do: "), error.remedy));
  const details = list([
    ["Platform's message", error.message],
    ["Code", error.code],
    ["HTTP status", error.http_status],
    ["Request id", error.request_id, "mono"],
    ["More information", error.more_info],
    ["Details", error.details],
  ]);
  details.className = "details";
  if (details.childElementCount) box.append(details);
  return box;
}

// A message ends with its details: code, HTTP status, request id and link.
function message(text) {
  const [, reason, details] = /^(.+) (\((?:code|HTTP|the Platform's message:) .*)$/s.exec(text ?? "") ?? [];
  return reason ? [reason, details] : [text, null];
}

function options(status) {
  const lines = [
    status.copy_only
      ? "Copy: the file stays on the Platform, and the bucket gets a copy."
      : "Move: the file's bytes go to the bucket, and the project file becomes an alias of the object there.",
    status.overwrite
      ? "Overwrite: an object that is already at the destination is deleted first."
      : "No overwrite: an object that is already at the destination is never replaced.",
  ];
  const words = element("ul", "words", ...lines.map((line) => element("li", "", line)));
  const rows = Object.entries(status.properties ?? {}).map(([name, value]) => [PROPERTIES[name] ?? name, value ?? "none"]);
  const properties = list(rows);
  properties.className = "details";
  return rows.length ? element("div", "", words, properties) : words;
}

function airflowNote(task, sameTry, retry = "The retry checks the Platform before it submits anything.") {
  if (task.state === "up_for_retry") return `Airflow will retry the task. ${retry}`;
  if (["scheduled", "queued"].includes(task.state)) {
    return sameTry
      ? "The wait is over. The task is queued for a worker to finish."
      : "This is the status of the previous attempt. Airflow is about to start the next one.";
  }
  return null;
}

// Kinds of jobs

const JOBS = {
  export: {
    key: "export_id",
    name: "export",
    title: "Export",
    card: "Export job",
    results: "Destination or reason",
    states: ["COMPLETED", "FAILED", "RUNNING", "PENDING"],
    dryRun: "The export was checked, and nothing was submitted.",
    unwaited: "submits the export and does not wait for it. Use SevenBridgesExportSensor with export_id",
    inFlight: `${NO_CANCEL} If you clear the task, it adopts this export and does not submit another one.`,
    origin: "Submitted by this task",
    titles(status) {
      const file = status.file ?? {};
      const destination = status.uri ?? (known(status.volume) ? `${status.volume}/${status.location}` : "the volume");
      const verbs = status.copy_only ? ["Copy", "Copied", "Copying"] : ["Move", "Moved", "Moving"];
      return verbs.map((verb) => `${verb} ${file.name ?? file.id ?? "a file"} to ${destination}`);
    },
    cards(status) {
      const file = status.file ?? {};
      return [
        card("Source file", list([
          ["Name", file.name],
          ["Size", bytes(file.size)],
          ["Project", file.project],
          ["File id", file.id, "mono"],
        ])),
        card("Destination", list([
          ["URI", status.uri, "mono"],
          ["Volume", status.volume],
          ["Location", status.location, "mono"],
          ["Size", bytes(status.size)],
          ["ETag", status.etag, "mono"],
        ])),
        known(status.copy_only) ? card("Export options", options(status)) : null,
      ];
    },
    rows: () => [],
    parts: () => [],
  },
  task: {
    key: "task_id",
    name: "task",
    title: "Task",
    card: "Task on the Platform",
    results: "Task or reason",
    states: ["COMPLETED", "FAILED", "ABORTED", "RUNNING", "QUEUED"],
    dryRun: "The Platform checked a draft, which is deleted. Nothing runs.",
    unwaited: "starts the task and does not wait for it. Use SevenBridgesTaskSensor with sevenbridges_task_id",
    inFlight: "It continues and costs money. If you clear the Airflow task before it ends, no other task is started. To stop it, abort it on the Platform.",
    origin: "Started by this Airflow task",
    rerun: "The retry runs the app again, in a new task.",
    titles(status) {
      // Without the revision, which the card has.
      const app = known(status.app) ? status.app.split("/").slice(0, 3).join("/") : "an app";
      return ["Run", "Ran", "Running"].map((verb) => `${verb} ${app}${known(status.project) ? ` in ${status.project}` : ""}`);
    },
    cards: (status) => [
      card("App", list([
        ["App", status.app, "mono"],
        ["Project", status.project],
        ["App's page", status.app_page, "mono"],
      ])),
    ],
    rows(latest) {
      const [began, ended] = [time(latest.started_on), time(latest.finished_on)];
      const until = ended ?? time(latest.at);
      const open = OPEN.includes(latest.state);
      return [
        ["Name", latest.name],
        ["Task's page", latest.page, "mono"],
        ["Steps", latest.steps_total ? `${count(latest.steps_completed)} of ${count(latest.steps_total)} completed` : null],
        ["Waits for", open ? latest.waits_for : null],
        ["Duration", began && until && (ended || open) ? `${duration(until - began)}${ended ? "" : " so far"}` : null],
        ["Price", known(latest.price) ? `${latest.price}${open ? " so far" : ""}` : null],
        ["Output files", known(latest.outputs) ? count(latest.outputs) : null],
      ];
    },
    parts: (latest) => (latest.counts ? [children(latest.counts)] : []),
  },
};

function children(counts) {
  const number = (...states) => states.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  const total = number(...Object.keys(counts));
  const shares = { good: number("COMPLETED"), bad: number("FAILED", "ABORTED"), busy: number("RUNNING") };
  return element(
    "section", "card", element("h2", "", `Batch of ${plural(total, "task", "tasks")}`), bar(total, shares),
    element("div", "figures", ...JOBS.task.states.map((state) => figure(count(counts[state]), WORDS[state][1].toLowerCase()))),
  );
}

function bar(total, shares) {
  const made = element("div", "bar");
  made.setAttribute("role", "progressbar");
  made.setAttribute("aria-valuemin", "0");
  made.setAttribute("aria-valuemax", String(total));
  made.setAttribute("aria-valuenow", String(shares.good));
  for (const [name, number] of Object.entries(shares)) {
    const piece = element("div", name);
    piece.style.width = `${(100 * number) / (total || 1)}%`;
    if (number) piece.style.minWidth = "2px";
    made.append(piece);
  }
  return made;
}

const figure = (value, name) => element("div", "", element("b", "", value), element("span", "", name));

// A single job

function single(task, status, progress) {
  const job = JOBS[status.kind] ?? JOBS.export;
  const id = status[job.key];
  const follows = progress && progress[job.key] === id && known(progress.state);
  const latest = follows && OPEN.includes(status.state) ? { ...status, ...progress } : status;
  const state = latest.state;
  const since = follows ? progress : {};
  const error = status.error;
  const sameTry = status.try_number === task.try_number;
  let [kind, word] = error ? outcome(error, state) : WORDS[state] ?? ["", state || "Starting"];
  // In a batch that completed, some tasks may have failed.
  if (!error && state === "COMPLETED" && (latest.counts?.FAILED || latest.counts?.ABORTED)) [kind, word] = ["bad", "Partially failed"];
  const [plain, past, present] = job.titles(status);
  const title = error ? plain : { COMPLETED: past, RUNNING: present }[state] ?? plain;
  const reruns = ["FAILED", "ABORTED"].includes(state) ? job.rerun : undefined;
  let note = airflowNote(task, sameTry, reruns);
  const parts = [];
  const open = !error && OPEN.includes(state);
  if (open && task.state === "success") note = `This Airflow task ${job.unwaited} "${id}" to wait.`;
  if (open && task.state === "failed") {
    [kind, word] = ["wait", "In flight"];
    parts.push(notice("wait", `The Airflow task failed, but its ${job.name} is still in flight`, job.inFlight));
  }
  if (state === "CHECKING" && !error) {
    const until = time(status.check_again_at);
    note = `${until ? `The next check is at ${datetime(until)}. ` : ""}Nothing is submitted until the state is clear.`;
  }
  if (state === "DRY_RUN") note = job.dryRun;
  parts.unshift(head(kind, word, title, note));
  if (error) parts.push(failure(error, job, state));
  parts.push(...job.parts(latest));
  if (known(id) && state !== "DRAFT") parts.push(element("section", "card", element("h2", "", "Timeline"), steps(state, status, since, error)));
  // A request that was rejected has no job.
  parts.push(element("div", "cards", ...[
    ...job.cards(status),
    card(job.card, list([
      [`${job.title} id`, id ?? (state === "COMPLETED" ? "unknown" : null), "mono"],
      ...job.rows(latest),
      ["Origin", known(status.adopted) ? (status.adopted ? "Adopted: it existed already" : job.origin) : null],
      ["Reason", status.why],
    ])),
  ].filter((each) => each?.querySelector("dd, li"))));
  if (open && follows && known(progress.note) && !isPlainState(progress.note)) parts.push(element("p", "foot", `${datetime(time(progress.at) ?? new Date())}: ${progress.note}`));
  return parts;
}

function steps(state, status, since, error) {
  // The Platform sets started_on when it accepts the job, and does not say when it began to run.
  const queued = time(status.submitted_at) ?? time(status.started_on);
  const ended = time(status.finished_on ?? since.finished_on);
  const updated = time(since.at);
  const level = { RUNNING: 1, ABORTING: 1, COMPLETED: 2, FAILED: 2, ABORTED: 2 }[state] ?? 0;
  const failed = ["FAILED", "ABORTED"].includes(state) || error?.outcome === "FAILED";
  const step = (number, name, ...lines) => {
    const finished = level > number || (number === 2 && state === "COMPLETED");
    const now = level === number && !finished && !failed;
    const broken = failed && number === 2;
    return element(
      "li", broken ? "now broken" : finished || (failed && number < 2) ? "past" : now ? "now" : "",
      element("b", "", name), ...lines.filter(known).map((line) => element("span", "", line)),
    );
  };
  const reported = failed && !ended ? time(status.at) : null;
  const total = queued && ended ? `after ${duration(ended - queued)}` : null;
  return element(
    "ol", "steps",
    step(0, "Queued", queued ? datetime(queued) : null),
    step(1, "Running", level === 1 && !failed && updated ? `updated ${datetime(updated)}` : null),
    step(2, state === "ABORTED" ? "Aborted" : failed ? "Failed" : "Completed", ended ? datetime(ended) : reported ? `reported ${datetime(reported)}` : null, total),
  );
}

// Many exports

function many(task, status, progress) {
  const counts = { ...(status.counts ?? {}) };
  const newer = progress && known(progress.total) && (time(progress.at) ?? 0) > (time(status.at) ?? 0) && !FINISHED.includes(task.state);
  if (newer) {
    // The progress covers the exports in flight; the task's own counts do not contain those that ended since.
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
  // An unknown state is one that the Platform has added: its exports count as in flight.
  const flying = Math.max(0, total - done - bad - skipped - (counts.WAITING ?? 0));
  const before = status.exported_before ?? 0;
  const nothing = !total && status.state === "COMPLETED";
  const sameTry = status.try_number === task.try_number;
  const error = status.error;
  const over = FINISHED.includes(task.state) || task.state === "up_for_retry";
  let [kind, word] = ["busy", "Running"];
  if (error) [kind, word] = OUTCOMES[error.outcome] ?? OUTCOMES.ERROR;
  else if (status.state === "DRY_RUN") [kind, word] = WORDS.DRY_RUN;
  else if (bad && over) [kind, word] = ["bad", done ? "Partially failed" : "Failed"];
  else if (total && done + skipped === total) [kind, word] = WORDS.COMPLETED;
  else if (task.state === "failed") [kind, word] = WORDS.FAILED;
  else if (nothing) [kind, word] = WORDS.COMPLETED;
  else if (!total) [kind, word] = ["wait", "Starting"];
  const verb = status.copy_only ? "copied" : status.copy_only === false ? "moved" : "exported";
  const dry = status.state === "DRY_RUN";
  const title = dry ? `${plural(total, "file", "files")} would be ${verb}` : total ? `${count(done)} of ${plural(total, "file", "files")} ${verb}` : nothing ? "Nothing to export" : "No files yet";
  const note = dry ? "All files were checked, and nothing was submitted. The task's log lists them." : airflowNote(task, sameTry);
  const parts = [head(kind, word, title, note)];
  if (error) parts.push(failure(error, JOBS.export));
  if (over && !dry && flying) {
    parts.push(notice("wait", `${plural(flying, "export is", "exports are")} still in flight`, `${NO_CANCEL} A retry or a cleared task adopts them and does not submit them again.`));
  }
  if (over && !dry && unanswered) {
    parts.push(notice("wait", `${plural(unanswered, "submission has", "submissions have")} no response`, "The Platform may have accepted them. A retry or a cleared task checks before it submits anything."));
  }
  if (!dry && (total || before)) {
    parts.push(element(
      "section", "card", bar(total, { good: done, bad, busy: flying }),
      element(
        "div", "figures",
        figure(count(status.exported_now ?? done), before ? "exported now" : "exported"),
        before ? figure(count(before), "exported before") : null,
        figure(count(bad), "failed"),
        skipped ? figure(count(skipped), "skipped") : null,
        figure(count(flying), "in flight"),
        unanswered ? figure(count(unanswered), "no response") : null,
        figure(count(left), over ? "not submitted" : "not submitted yet"),
        known(status.bytes) ? figure(bytes(status.bytes), known(status.bytes_total) ? `of ${bytes(status.bytes_total)}` : "exported") : null,
      ),
    ));
  }
  const errors = Array.isArray(status.errors) ? status.errors : [];
  if (errors.length) {
    const rows = errors.map((item) => {
      const [reason, details] = message(item.message);
      return element(
        "tr", "",
        element("td", "", element("div", "", item.name ?? item.file), item.name ? element("div", "quiet mono", item.file) : null),
        element("td", "state", FILE_STATES[item.state] ?? item.state),
        element("td", "code", item.code),
        element("td", "", reason, details ? element("div", "quiet", details) : null),
      );
    });
    const header = element("tr", "", ...["File", "State", "Code", "Reason"].map((name) => element("th", "", name)));
    parts.push(element(
      "section", "card",
      element("h2", "", errors.length < bad ? `Failed files: first ${errors.length} of ${count(bad)}` : "Failed files"),
      element("table", "", element("thead", "", header), element("tbody", "", ...rows)),
    ));
  }
  parts.push(element(
    "div", "cards",
    card("Source and destination", list([
      ["Source", status.source],
      ["Volume", status.volume],
      ["URI", status.uri, "mono"],
      ["Started", time(status.started_at) ? datetime(time(status.started_at)) : null],
      ["Duration", over && known(status.seconds) ? duration(1000 * status.seconds) : null],
    ])),
    card("Manifest", known(status.manifest)
      ? element("div", "", element("div", "mono", status.manifest), element("p", "quiet", over ? "One line per file: its destination, or the reason why it was not exported." : "The task writes it when it ends."))
      : element("p", "quiet", "No manifest. To list every file, set the operator's parameter ‘manifest’.")),
    known(status.copy_only) ? card("Export options", options(status)) : null,
  ));
  if (newer && known(progress.note)) parts.push(element("p", "foot", `${datetime(time(progress.at) ?? new Date())}: ${progress.note}`));
  return parts;
}

// A sensor, which only waits

const SENSOR_ENDS = { success: ["good", "Done"], skipped: ["", "Skipped"] };

function waited(task, status) {
  const counts = status.counts ?? {};
  const jobs = Array.isArray(status.jobs) ? status.jobs : [];
  const total = status.total ?? 0;
  const job = JOBS[status.job_kind] ?? JOBS.export;
  const [kind, word] = SENSOR_ENDS[task.state] ?? (status.error ? outcome(status.error, jobs[0]?.state) : SENSOR_ENDS.success);
  const completed = counts.COMPLETED ?? 0;
  let title = `There was no ${job.name} to wait for`;
  if (total === 1) title = `${job.title} ${jobs[0]?.id ?? ""}`;
  if (total > 1) title = `${count(completed)} of ${plural(total, job.name, `${job.name}s`)} completed`;
  const parts = [head(kind, word, title, airflowNote(task, status.try_number === task.try_number))];
  if (status.error) parts.push(failure(status.error, job, jobs[0]?.state));
  if (jobs.length) {
    const rows = jobs.map((item) => {
      const [pill, state] = WORDS[item.state] ?? ["", item.state];
      return element(
        "tr", "",
        element("td", "mono", item.id),
        element("td", "", element("span", `pill ${pill}`, state)),
        element("td", "", item.text ?? ""),
      );
    });
    const header = element("tr", "", ...[`${job.title} id`, "State", job.results].map((name) => element("th", "", name)));
    parts.push(element(
      "section", "card",
      element("h2", "", jobs.length < total ? `First ${jobs.length} of ${count(total)} ${job.name}s` : `${job.title}s`),
      element("table", "", element("thead", "", header), element("tbody", "", ...rows)),
      element("p", "quiet", `As of ${datetime(time(status.at) ?? new Date())}`),
    ));
  }
  return parts;
}

function waiting(task, progress) {
  const job = JOBS[progress.job_kind] ?? JOBS.export;
  const finished = FINISHED.includes(task.state);
  const end = SENSOR_ENDS[task.state] ?? WORDS.FAILED;
  const note = finished ? null : airflowNote(task, true);
  const updated = ["Updated", datetime(time(progress.at) ?? new Date())];
  if (!known(progress.total)) {
    const id = progress[job.key];
    const [kind, word] = finished ? end : WORDS[progress.state] ?? ["busy", "Waiting"];
    return [
      head(kind, word, `${finished ? job.title : `Waiting for ${job.name}`} ${id}`, note),
      ...job.parts(progress),
      card(job.card, list([
        [`${job.title} id`, id, "mono"],
        ...job.rows(progress),
        ["Message", finished || isPlainState(progress.note) ? null : progress.note],
        updated,
      ])),
    ];
  }
  const counts = progress.counts ?? {};
  const others = Object.keys(counts).filter((state) => !job.states.includes(state));
  const [kind, word] = finished ? end : ["busy", "Waiting"];
  return [
    head(kind, word, `${finished ? "" : "Waiting for "}${plural(progress.total, job.name, `${job.name}s`)}`, note),
    card(`${job.title}s by state`, list([
      ...[...job.states, ...others].map((state) => [WORDS[state]?.[1] ?? state, count(counts[state])]),
      updated,
    ])),
  ];
}

const KINDS = { export: single, task: single, bulk: many, sensor: waited };

// No status

function empty(task) {
  const ours = /^SevenBridges/.test(task.operator ?? task.operator_name ?? "");
  if (!ours) return [head("", "No status", "This task has no status", "This tab shows the exports and the apps that tasks run with the Seven Bridges provider.")];
  if (FINISHED.includes(task.state)) {
    const [kind, word] = { success: WORDS.COMPLETED, failed: WORDS.FAILED }[task.state] ?? ["", "No status"];
    return [head(kind, word, "This task has no status", "The task finished without publishing one. See the task's log.")];
  }
  return [head("wait", "No status yet", "This task has no status yet", "The status appears when the Platform has accepted the request. Until then, see the task's log.")];
}

function unreadable() {
  return [head("wait", "Status unavailable", "The status of this task cannot be read here", "Airflow's XCom backend stores it in another place. See the task's log.")];
}

function refusal(error) {
  if (error.status === 401) return [head("", "Not logged in", "Log in to Airflow again to see this task")];
  if (error.status === 403) return [head("", "No access", "You do not have access to this task", "Your Airflow administrator can give you access to the Dag.")];
  return [head("wait", "No response", "Airflow does not respond", "This page retries automatically.")];
}

// The loop

let timer = null;
let shown = "";
let failures = 0;
let running = false;

function show(parts) {
  // Unchanged elements stay, so that a selection survives and a screen reader repeats nothing.
  const next = element("div", "", ...parts);
  if (next.innerHTML === shown) return;
  shown = next.innerHTML;
  main.replaceChildren(...next.childNodes);
}

async function refresh() {
  if (running) return;
  running = true;
  clearTimeout(timer);
  let again = true;
  try {
    const task = await get(mapIndex >= 0 ? `${instance}/${mapIndex}` : instance);
    if (!task) {
      show([head("", "Not found", "This task does not exist, or you do not have access to it")]);
      again = false;
    } else {
      const values = await xcoms();
      const [status, progress] = values.map((value) => (value === UNREADABLE ? null : value));
      if (values[0] === UNREADABLE) show(unreadable());
      else if (status) show((KINDS[status.kind] ?? single)(task, status, progress));
      else if (progress) show(waiting(task, progress));
      else show(values.includes(UNREADABLE) ? unreadable() : empty(task));
      again = !FINISHED.includes(task.state);
    }
    failures = 0;
  } catch (error) {
    failures += 1;
    again = ![401, 403].includes(error.status);
    if (!again || failures > 1 || !shown) show(refusal(error));
  } finally {
    running = false;
  }
  if (again && !document.hidden) timer = setTimeout(refresh, Math.min(POLL_INTERVAL * 2 ** failures, MAX_POLL_INTERVAL));
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) refresh();
});

// Airflow's theme if this page can read it, otherwise the system's

function theme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let outer = null;
  try {
    if (window.parent !== window) outer = window.parent.document.documentElement;
  } catch { outer = null; }
  const apply = () => {
    const chosen = outer && ["dark", "light"].find((name) => outer.classList.contains(name) || outer.dataset.theme === name);
    document.documentElement.dataset.theme = chosen ?? (system.matches ? "dark" : "light");
  };
  system.addEventListener("change", apply);
  if (outer) new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class", "data-theme"] });
  apply();
}

theme();
refresh();
