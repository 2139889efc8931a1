import { ApiError, call, send, signInAgain } from "./api.js";
import { waitUntilActive } from "./activation.js";
import { explain } from "./limits.js";
import { prose } from "./prose.js";
import { events } from "./sse.js";
import { config, el, formatCost, formatCount, hush, tell } from "./ui.js";
import { showUsage } from "./usage.js";

const find = (selector) => document.querySelector(selector);
const talk = find("[data-talk]");
const turns = find("[data-turns]");
const empty = find("[data-empty]");
const composer = find("[data-composer]");
const message = document.getElementById("message");
const region = find("[data-message]");
const status = find("[data-status]");
const stopButton = find("[data-stop]");
const sendButton = find("[data-send]");

const LEDGER_MS = 1500;

let conversation = [];
let running = null;

// --- Model and settings ----------------------------------------------------------------------

const model = () => find('input[name="model"]:checked');

function showModel() {
  const chosen = model();
  find("[data-model-name]").textContent = chosen ? chosen.dataset.title : "none";
  hush(region);
  if (chosen?.dataset.plan) {
    tell(region, `${chosen.dataset.title} comes with the ${chosen.dataset.plan} plan.`, {
      tone: "warn",
      actions: [el("a", { class: "button button--small", href: "/" }, "See plans")],
    });
  }
}

find("[data-models]").addEventListener("change", () => {
  showModel();
  sessionStorage.setItem("model", model().value);
});
const temperature = document.getElementById("temperature");
const showTemperature = () => {
  find("[data-temperature]").textContent = Number(temperature.value).toFixed(1);
};
temperature.addEventListener("input", showTemperature);

const narrow = matchMedia("(max-width: 59.99rem)");
const fold = () => {
  find("[data-side]").open = !narrow.matches;
};
narrow.addEventListener("change", fold);

// --- The conversation ------------------------------------------------------------------------

const atBottom = () => talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60;
const toBottom = () => {
  talk.scrollTop = talk.scrollHeight;
};

function addTurn(role, who, ...content) {
  empty.hidden = true;
  const turn = el("article", { class: `turn turn--${role}` }, el("p", { class: "turn__who" }, who), ...content);
  turns.append(turn);
  toBottom();
  return turn;
}

/** The answer being written: text arrives faster than it need be drawn. */
class Answer {
  constructor(title) {
    this.text = "";
    this.body = el("div", { class: "turn__text prose prose--waiting" });
    this.turn = addTurn("assistant", title, this.body);
    this.drawn = false;
  }

  add(text) {
    this.text += text;
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => this.draw("prose--live"));
  }

  draw(state = "") {
    const follow = atBottom();
    this.drawn = false;
    this.body.className = `turn__text prose ${state}`;
    this.body.replaceChildren(...prose(this.text));
    if (follow) toBottom();
  }

  finish(facts, note) {
    this.draw();
    if (!this.text && note) this.body.replaceChildren(el("p", { class: "soft" }, note));
    const copy = el("button", { class: "button button--quiet", type: "button" }, "Copy");
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(this.text);
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 2000);
    });
    const parts = [...facts.map((fact) => el("span", { class: "numeric" }, fact))];
    if (this.text) parts.push(copy);
    this.turn.append(el("div", { class: "turn__foot" }, ...parts));
    if (this.text && note) this.turn.append(el("p", { class: "soft small" }, note));
    if (atBottom()) toBottom();
  }
}

function facts(seen, started) {
  const list = [];
  const usage = seen.usage;
  if (usage) {
    list.push(`${formatCount(usage.prompt_tokens)} in · ${formatCount(usage.completion_tokens)} out tokens`);
  }
  if (seen.cost !== null) list.push(formatCost(seen.cost));
  if (seen.firstAt) list.push(`first token ${((seen.firstAt - started) / 1000).toFixed(2)} s`);
  list.push(`${((performance.now() - started) / 1000).toFixed(1)} s`);
  return list;
}

async function read(response, answer, seen) {
  for await (const { event, data } of events(response.body)) {
    if (data === "[DONE]") continue;
    const chunk = JSON.parse(data);
    if (event === "error" || chunk.error) throw new ApiError(502, chunk.error, chunk.error.retry_after ?? null);
    if (chunk.usage) seen.usage = chunk.usage;
    if (event === "usage") {
      seen.usage = chunk.usage ?? chunk;
      seen.cost = chunk.cost ?? seen.cost;
      continue;
    }
    const text = chunk.choices?.[0]?.delta?.content;
    if (text) {
      seen.firstAt ??= performance.now();
      answer.add(text);
    }
  }
}

async function ask(text) {
  const chosen = model();
  if (!chosen) {
    tell(region, "Pick a model first.");
    return;
  }
  conversation.push({ role: "user", content: text });
  addTurn("user", "You", el("p", { class: "turn__text" }, text));
  const answer = new Answer(chosen.dataset.title);
  const started = performance.now();
  const seen = { usage: null, cost: null, firstAt: null };
  running = new AbortController();
  let note = "";
  try {
    const body = {
      messages: conversation,
      selectedModelId: chosen.value,
      temperature: Number(temperature.value),
      max_tokens: Number(document.getElementById("max-tokens").value) || undefined,
    };
    const response = await send("POST", "/api/proxy/chat", body, {
      accept: "text/event-stream",
      signal: running.signal,
    });
    await read(response, answer, seen);
    status.textContent = "The answer is complete.";
  } catch (error) {
    if (error.name === "AbortError") note = "Stopped by you.";
    else {
      note = error.message;
      if (error.status === 401) return signInAgain();
      explain(region, error, { retry: () => retry(answer, text) });
    }
  } finally {
    running = null;
    answer.finish(facts(seen, started), note);
    if (answer.text) conversation.push({ role: "assistant", content: answer.text });
    else conversation.pop();
    // The books are written in batches, within about a second.
    setTimeout(refreshUsage, LEDGER_MS);
  }
}

function retry(answer, text) {
  hush(region);
  answer.turn.previousElementSibling?.remove();
  answer.turn.remove();
  return run(text);
}

async function run(text) {
  sendButton.hidden = true;
  stopButton.hidden = false;
  try {
    await ask(text);
  } finally {
    sendButton.hidden = false;
    stopButton.hidden = true;
    message.focus();
  }
}

// --- The composer ----------------------------------------------------------------------------

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = message.value.trim();
  if (!text || running) return;
  hush(region);
  message.value = "";
  run(text);
});
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});
stopButton.addEventListener("click", () => running?.abort());
find("[data-new]").addEventListener("click", () => {
  running?.abort();
  conversation = [];
  turns.replaceChildren(empty);
  empty.hidden = false;
  hush(region);
  message.focus();
});
for (const starter of document.querySelectorAll("[data-starter]")) {
  starter.addEventListener("click", () => {
    message.value = starter.textContent;
    composer.requestSubmit();
  });
}

// --- Usage and activation --------------------------------------------------------------------

async function refreshUsage() {
  try {
    showUsage(find("[data-usage]"), await call("GET", "/api/me"), config().budget);
  } catch (error) {
    if (error.status === 401) signInAgain();
  }
}

const remembered = document.querySelector(
  `input[name="model"][value="${CSS.escape(sessionStorage.getItem("model") ?? "")}"]`,
);
if (remembered) remembered.checked = true;
fold();
showTemperature();
showModel();
refreshUsage();
if (config().activating) waitUntilActive(region, { reload: true });
