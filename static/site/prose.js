// Enough Markdown for a chat answer, built as DOM nodes: a model's output is never parsed as HTML.

import { el } from "./ui.js";

const FENCE = /^\s*```\s*([\w+#.-]*)\s*$/;
const BULLET = /^\s*[-*]\s+(.*)$/;
const NUMBERED = /^\s*\d+[.)]\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;
const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*/g;

/** The block elements for `text`. An unfinished code fence counts as code already. */
export function prose(text) {
  const blocks = [];
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    if (FENCE.test(line)) {
      const code = [];
      for (at += 1; at < lines.length && !/^\s*```\s*$/.test(lines[at]); at += 1) code.push(lines[at]);
      at += 1;
      blocks.push(el("pre", { tabindex: "0" }, el("code", {}, code.join("\n"))));
    } else if (HEADING.test(line)) {
      blocks.push(el("h3", {}, ...inline(line.match(HEADING)[1])));
      at += 1;
    } else if (BULLET.test(line) || NUMBERED.test(line)) {
      const pattern = BULLET.test(line) ? BULLET : NUMBERED;
      const items = [];
      for (; at < lines.length && pattern.test(lines[at]); at += 1) {
        items.push(el("li", {}, ...inline(lines[at].match(pattern)[1])));
      }
      blocks.push(el(pattern === BULLET ? "ul" : "ol", {}, ...items));
    } else if (line.trim() === "") {
      at += 1;
    } else {
      const paragraph = [];
      const ends = (next) => next.trim() === "" || [FENCE, HEADING, BULLET, NUMBERED].some((start) => start.test(next));
      for (; at < lines.length && (paragraph.length === 0 || !ends(lines[at])); at += 1) paragraph.push(lines[at]);
      blocks.push(el("p", {}, ...inline(paragraph.join("\n"))));
    }
  }
  return blocks;
}

function inline(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(from, match.index));
    if (match[1] !== undefined) nodes.push(el("code", {}, match[1]));
    else if (match[2] !== undefined) nodes.push(el("strong", {}, match[2]));
    else nodes.push(el("em", {}, match[3]));
    from = match.index + match[0].length;
  }
  nodes.push(text.slice(from));
  return nodes;
}
