// The conversation: questions with their answers, as the next request sends them. This tab keeps
// it, so that signing in again or paying for a larger plan does not lose it; no server does.

import { forget, recall, remember } from "./store.js";

const NAME = "conversation";

export class Dialogue {
  /** @param {string} owner whose it is: somebody else in the same tab begins anew */
  constructor(owner) {
    this.owner = owner;
    const kept = recall(NAME);
    this.exchanges = kept?.owner === owner ? kept.exchanges : [];
    for (const exchange of this.exchanges) {
      if (!exchange.answer) exchange.note ||= "You left before the answer came.";
    }
  }

  /** Begin an exchange; its answer is still empty. */
  add(question, title) {
    const exchange = { question, title, answer: "", facts: [], note: "" };
    this.exchanges.push(exchange);
    this.keep();
    return exchange;
  }

  remove(exchange) {
    this.exchanges = this.exchanges.filter((other) => other !== exchange);
    this.keep();
  }

  clear() {
    this.exchanges = [];
    forget(NAME);
  }

  keep() {
    remember(NAME, { owner: this.owner, exchanges: this.exchanges });
  }

  /** What to send for `exchange`: everything answered before it, then its question. */
  messages(exchange) {
    const messages = [];
    for (const { question, answer } of this.exchanges.slice(0, this.exchanges.indexOf(exchange))) {
      if (answer) messages.push({ role: "user", content: question }, { role: "assistant", content: answer });
    }
    messages.push({ role: "user", content: exchange.question });
    return messages;
  }
}
