// How the conversation looks: one turn for each question, one for each answer.

import { prose } from "./prose.js";
import { copier, el } from "./ui.js";

const talk = document.querySelector("[data-talk]");
const turns = document.querySelector("[data-turns]");
const empty = document.querySelector("[data-empty]");

// Whoever reads at the end follows what is written there; whoever has scrolled up stays put.
const NEAR_PIXELS = 60;
let follows = true;
talk.addEventListener("scroll", () => {
  follows = talk.scrollHeight - talk.scrollTop - talk.clientHeight < NEAR_PIXELS;
});

function scrollDown() {
  talk.scrollTop = talk.scrollHeight;
}

function follow() {
  if (follows) scrollDown();
}

// A message above the composer takes room away from the conversation.
new ResizeObserver(follow).observe(talk);

export function clearTurns() {
  turns.replaceChildren(empty);
  empty.hidden = false;
}

function addTurn(role, who, ...content) {
  empty.hidden = true;
  const turn = el("article", { class: `turn turn--${role}` }, el("p", { class: "turn__who" }, who), ...content);
  turns.append(turn);
  scrollDown();
  return turn;
}

/** A question and the answer to it, written as it comes: faster than it need be drawn. */
export class Exchange {
  /** @param {object} kept the dialogue's record; `askAgain` is called by the button of a failed answer */
  constructor(kept, askAgain) {
    this.kept = kept;
    this.askAgain = askAgain;
    this.question = addTurn("user", "You", el("p", { class: "turn__text" }, kept.question));
    this.body = el("div", { class: "turn__text prose" });
    this.turn = addTurn("assistant", kept.title, this.body);
    this.isDrawing = false;
  }

  wait(hint = "") {
    this.body.className = "turn__text prose prose--waiting";
    this.body.replaceChildren(hint);
  }

  add(text) {
    this.kept.answer += text;
    if (this.isDrawing) return;
    this.isDrawing = true;
    requestAnimationFrame(() => {
      if (this.isDrawing) this.draw("prose--live");
    });
  }

  draw(state = "") {
    this.isDrawing = false;
    this.body.className = `turn__text prose ${state}`;
    this.body.replaceChildren(...prose(this.kept.answer));
    follow();
  }

  /** The answer is over, whole or not: show what it came to. `said`: its note, where that stands elsewhere. */
  finish(said = this.kept.note) {
    const { answer, note } = this.kept;
    this.draw();
    if (note) this.body.append(el("p", { class: "soft" }, said));
    this.foot = el("div", { class: "turn__foot" });
    this.turn.append(this.foot);
    this.showFacts();
    if (answer) this.foot.append(copier(() => this.kept.answer));
    if (note) {
      const again = el("button", { class: "button button--quiet", type: "button" }, "Ask again");
      again.addEventListener("click", this.askAgain);
      this.foot.append(again);
    }
    follow();
  }

  showFacts() {
    this.foot.querySelectorAll(".numeric").forEach((old) => old.remove());
    this.foot.prepend(...this.kept.facts.map((fact) => el("span", { class: "numeric" }, fact)));
  }

  remove() {
    this.question.remove();
    this.turn.remove();
    if (!turns.querySelector(".turn")) clearTurns();
  }
}
