// Read a text/event-stream response as it comes. EventSource cannot POST, so we parse it ourselves.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

/** Yields {event, data} for each event of the stream; comments (keep-alives) are skipped. */
export async function* events(body) {
  // TextDecoderStream keeps a character together that was split between two chunks.
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += value ?? "";
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  let event = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { event, data: data.join("\n") } : null;
}
