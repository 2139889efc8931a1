// OpenAI's client for Node against a running server: one scenario a run, its outcome as JSON.
//   node openai_client.mjs URL TOKEN SCENARIO
import OpenAI from "openai";

const [url, token, scenario] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/api/proxy/v1`, apiKey: token, maxRetries: 0 });
const hello = { model: "basic-chat", messages: [{ role: "user", content: "hi" }] };
const chat = (fields) => client.chat.completions.create({ ...hello, ...fields });

async function collect(stream) {
  const found = { text: "", arguments: "", usage: null };
  for await (const chunk of stream) {
    const delta = chunk.choices[0]?.delta;
    found.text += delta?.content ?? "";
    found.arguments += delta?.tool_calls?.[0]?.function?.arguments ?? "";
    found.usage = chunk.usage ?? found.usage;
  }
  return found;
}

const image = { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } };
const tool = { type: "function", function: { name: "weather", parameters: {} } };

const scenarios = {
  whole: async () => {
    const answer = await chat();
    return { text: answer.choices[0].message.content, tokens: answer.usage.total_tokens };
  },
  stream: async () => collect(await chat({ stream: true })),
  streamWithUsage: async () =>
    collect(await chat({ stream: true, stream_options: { include_usage: true } })),
  tools: async () => collect(await chat({ stream: true, tools: [tool] })),
  extras: async () => {
    await chat({
      messages: [{ role: "user", content: [{ type: "text", text: "what?" }, image] }],
      response_format: { type: "json_object" },
      next_years_field: 1,
    });
    return {};
  },
  models: async () => ({ ids: (await client.models.list()).data.map((model) => model.id) }),
  leaves: async () => {
    const stream = await chat({ stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content) break;
    }
    return {};
  },
};

let outcome;
try {
  outcome = await scenarios[scenario]();
} catch (error) {
  outcome = { error: error.constructor.name, code: error.code, requestId: error.requestID };
}
console.log(JSON.stringify(outcome));
