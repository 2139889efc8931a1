// What a page does: fetch() and a reader over the body.
//   node fetch_reader.mjs URL TOKEN
const [url, token] = process.argv.slice(2);
const response = await fetch(`${url}/api/proxy/chat`, {
  method: "POST",
  headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
  body: JSON.stringify({
    messages: [{ role: "user", content: "hi" }],
    selectedModelId: "basic-chat",
  }),
});
const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
let buffer = "";
let text = "";
for (;;) {
  const { value, done } = await reader.read();
  if (done) break;
  buffer += value;
  const frames = buffer.split("\n\n");
  buffer = frames.pop();
  for (const frame of frames) {
    const line = frame.split("\n").find((line) => line.startsWith("data: "));
    const data = line?.slice(6);
    if (data && data !== "[DONE]") text += JSON.parse(data).choices[0]?.delta?.content ?? "";
  }
}
console.log(text);
