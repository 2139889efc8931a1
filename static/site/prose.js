// Enough Markdown for a chat answer, built as DOM nodes: a model's output is never parsed as HTML.

import { el } from "./ui.js";

const FENCE = /^\s*```\s*([\w+#.-]*)\s*$/;
const BULLET = /^\s*[-*+]\s+(.*)$/;
const NUMBERED = /^\s*(\d{1,9})[.)]\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;
const QUOTE = /^\s*>\s?(.*)$/;
const RULE = /^\s*(?:-{3,}|\*{3,}|_{3,})\s*$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^\]]{1,300})\]\(([^()\s]{1,2000})\)/g;
const SAFE_LINK = /^(?:https?|mailto):/i;
const MOST_QUOTES = 8;

/** The block elements for `text`. An unfinished code fence counts as code already. */
export function prose(text) {
  return blocks(text.split("\n"), 0);
}

function blocks(lines, depth) {
  const found = [];
  for (let at = 0; at < lines.length; ) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const [block, next] = read(lines, at, depth);
    found.push(block);
    at = next;
  }
  return found;
}

/** The block that begins at line `at`, and the line after it. */
function read(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line)) return readCode(lines, at + 1);
  if (HEADING.test(line)) return [el("h3", {}, ...inline(line.match(HEADING)[1])), at + 1];
  if (RULE.test(line)) return [el("hr"), at + 1];
  if (QUOTE.test(line) && depth < MOST_QUOTES) {
    const next = endOf(lines, at, (other) => QUOTE.test(other));
    const quoted = lines.slice(at, next).map((other) => other.match(QUOTE)[1]);
    return [el("blockquote", {}, ...blocks(quoted, depth + 1)), next];
  }
  if (BULLET.test(line)) return readList(lines, at, BULLET, "ul", {});
  if (NUMBERED.test(line)) return readList(lines, at, NUMBERED, "ol", { start: line.match(NUMBERED)[1] });
  if (isTable(lines, at)) return readTable(lines, at);
  const next = endOf(lines, at + 1, (other, place) => other.trim() !== "" && !begins(lines, place));
  return [el("p", {}, ...inline(lines.slice(at, next).join("\n"))), next];
}

const begins = (lines, at) =>
  [FENCE, HEADING, RULE, QUOTE, BULLET, NUMBERED].some((start) => start.test(lines[at])) || isTable(lines, at);

function endOf(lines, from, belongs) {
  let at = from;
  while (at < lines.length && belongs(lines[at], at)) at += 1;
  return at;
}

function readCode(lines, from) {
  const end = endOf(lines, from, (line) => !/^\s*```\s*$/.test(line));
  return [el("pre", { tabindex: "0" }, el("code", {}, lines.slice(from, end).join("\n"))), end + 1];
}

function readList(lines, at, pattern, tag, attributes) {
  const next = endOf(lines, at, (line) => pattern.test(line));
  const items = lines.slice(at, next).map((line) => el("li", {}, ...inline(line.match(pattern).at(-1))));
  return [el(tag, attributes, ...items), next];
}

const isTable = (lines, at) =>
  lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("|") && TABLE_RULE.test(lines[at + 1]);

function readTable(lines, at) {
  const next = endOf(lines, at + 2, (line) => line.includes("|"));
  const row = (line, tag) => el("tr", {}, ...cells(line).map((cell) => el(tag, {}, ...inline(cell))));
  const table = el(
    "table",
    { class: "table" },
    el("thead", {}, row(lines[at], "th")),
    el("tbody", {}, ...lines.slice(at + 2, next).map((line) => row(line, "td"))),
  );
  return [el("div", { class: "table-scroll", tabindex: "0" }, table), next];
}

const cells = (line) =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim());

function inline(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(from, match.index), styled(match));
    from = match.index + match[0].length;
  }
  nodes.push(text.slice(from));
  return nodes;
}

function styled([whole, code, strong, emphasis, label, address]) {
  if (code !== undefined) return el("code", {}, code);
  if (strong !== undefined) return el("strong", {}, strong);
  if (emphasis !== undefined) return el("em", {}, emphasis);
  // Only where a link leads to a page: "javascript:" and the like stay as they were written.
  if (!SAFE_LINK.test(address)) return whole;
  return el("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, label);
}
