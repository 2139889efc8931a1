import { ApiError, call, send, signInAgain } from "./api.js";
import { Dialogue } from "./dialogue.js";
import { explain } from "./limits.js";
import { events } from "./sse.js";
import { forget, recall, remember } from "./store.js";
import { clearTurns, Exchange } from "./turns.js";
import { config, el, formatCost, formatCount, hush, tell } from "./ui.js";
import { showUsage } from "./usage.js";

const find = (selector) => document.querySelector(selector);
const composer = find("[data-composer]");
const message = document.getElementById("message");
const region = find("[data-message]");
const status = find("[data-status]");
const stopButton = find("[data-stop]");
const sendButton = find("[data-send]");
const settings = config();

// The books are written in batches, within about a second.
const LEDGER_MS = 1500;
// A change of plan reaches the gateway within seconds.
const MOST_WAITS = 10;

const dialogue = new Dialogue(settings.owner);
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
      actions: [
        el(
          "a",
          { class: "button button--small", href: `/#${chosen.dataset.planCode}` },
          `Upgrade to ${chosen.dataset.plan}`,
        ),
      ],
    });
  }
}

find("[data-models]").addEventListener("change", () => {
  showModel();
  remember("model", model().value);
  fold();
});
const temperature = document.getElementById("temperature");
const showTemperature = () => {
  find("[data-temperature]").textContent = Number(temperature.value).toFixed(1);
};
temperature.addEventListener("input", showTemperature);

const longest = document.getElementById("max-tokens");
longest.addEventListener("change", () => {
  const wanted = Math.round(Number(longest.value)) || Number(longest.defaultValue);
  longest.value = String(Math.min(Math.max(wanted, 1), Number(longest.max)));
});

const narrow = matchMedia("(max-width: 59.99rem)");
/** On a phone the models make room for the conversation. */
function fold() {
  find("[data-side]").open = !narrow.matches;
}
narrow.addEventListener("change", fold);

// --- Asking ----------------------------------------------------------------------------------

function facts(seen, started) {
  const list = [...spent(seen.usage, seen.cost)];
  if (seen.firstAt) list.push(`first token ${((seen.firstAt - started) / 1000).toFixed(2)} s`);
  list.push(`${((performance.now() - started) / 1000).toFixed(1)} s`);
  return list;
}

function* spent(usage, cost) {
  if (usage) yield `${formatCount(usage.prompt_tokens)} in · ${formatCount(usage.completion_tokens)} out tokens`;
  if (cost !== null) yield formatCost(cost);
}

async function read(response, shown, seen) {
  for await (const { event, data } of events(response.body)) {
    if (data === "[DONE]") continue;
    const chunk = JSON.parse(data);
    if (event === "error" || chunk.error) throw new ApiError(502, chunk.error, chunk.error.retry_after ?? null);
    if (chunk.usage) seen.usage = chunk.usage;
    if (event === "usage") {
      seen.cost = chunk.cost ?? seen.cost;
      continue;
    }
    const text = chunk.choices?.[0]?.delta?.content;
    if (text) {
      seen.firstAt ??= performance.now();
      shown.add(text);
    }
  }
}

/** Send a request; where access is still being set up, wait for it. */
async function sendPatiently(body, signal, shown) {
  for (let waits = 0; ; waits += 1) {
    try {
      return await send("POST", "/api/proxy/chat", body, { accept: "text/event-stream", signal });
    } catch (error) {
      if (error.code !== "key_not_ready" || waits === MOST_WAITS) throw error;
      shown.wait("Your access is being set up…");
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfter ?? 1)));
      signal.throwIfAborted();
    }
  }
}

async function answer(exchange, shown) {
  const started = performance.now();
  const seen = { usage: null, cost: null, firstAt: null, id: "" };
  const mine = new AbortController();
  running = mine;
  let said;
  shown.wait();
  try {
    const body = {
      messages: dialogue.messages(exchange),
      selectedModelId: model().value,
      temperature: Number(temperature.value),
      max_tokens: Number(longest.value) || undefined,
    };
    const response = await sendPatiently(body, mine.signal, shown);
    seen.id = response.headers.get("X-Request-Id");
    await read(response, shown, seen);
    status.textContent = "The answer is complete.";
  } catch (error) {
    if (error.status === 401) return leaveToSignIn(exchange);
    exchange.note = error.name === "AbortError" ? "Stopped by you." : error.message;
    if (error.name !== "AbortError") {
      explain(region, error, { ...settings, retry: shown.askAgain });
      said = exchange.answer ? "Broken off." : "No answer.";
    }
  } finally {
    if (running === mine) running = null;
    exchange.facts = facts(seen, started);
    shown.finish(said);
    dialogue.keep();
    setTimeout(() => settle(exchange, shown, seen), LEDGER_MS);
  }
  return undefined;
}

/** The period's usage, and what an answer came to that did not tell by itself. */
async function settle(exchange, shown, seen) {
  refreshUsage();
  if (seen.usage || !seen.id) return;
  const receipt = await call("GET", `/api/usage/requests/${encodeURIComponent(seen.id)}`).catch(() => null);
  if (!receipt) return;
  exchange.facts = [...spent(receipt, receipt.cost), ...exchange.facts];
  shown.showFacts();
  dialogue.keep();
}

function leaveToSignIn(exchange) {
  dialogue.remove(exchange);
  remember("draft", exchange.question);
  signInAgain();
}

function show(exchange) {
  const shown = new Exchange(exchange, () => {
    if (running) return;
    dialogue.remove(exchange);
    shown.remove();
    run(exchange.question);
  });
  return shown;
}

async function run(question) {
  const chosen = model();
  if (!chosen) {
    tell(region, "Your plan has no model at the moment.");
    return;
  }
  hush(region);
  sendButton.hidden = true;
  stopButton.hidden = false;
  const exchange = dialogue.add(question, chosen.dataset.title);
  await answer(exchange, show(exchange));
  sendButton.hidden = false;
  stopButton.hidden = true;
  // On a phone the keyboard would cover the answer.
  if (!narrow.matches) message.focus();
}

// --- The composer ----------------------------------------------------------------------------

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const question = message.value.trim();
  if (!question || running) return;
  message.value = "";
  run(question);
});
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});
stopButton.addEventListener("click", () => running?.abort());
find("[data-new]").addEventListener("click", () => {
  running?.abort();
  dialogue.clear();
  clearTurns();
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
    showUsage(find("[data-usage]"), await call("GET", "/api/me"), settings.budget);
  } catch (error) {
    if (error.status === 401) signInAgain();
  }
}

const remembered = find(`input[name="model"][value="${CSS.escape(recall("model") ?? "")}"]`);
if (remembered) remembered.checked = true;
for (const exchange of dialogue.exchanges) show(exchange).finish();
message.value = recall("draft") ?? "";
forget("draft");
fold();
showTemperature();
showModel();
refreshUsage();
