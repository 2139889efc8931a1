// node docs/client/example.ts https://app.example.com "$ID_TOKEN" "Say hello"
import { Tesslate, TesslateError } from "./tesslate.ts";

declare const process: { argv: string[]; stdout: { write(text: string): void }; exitCode?: number };

const [baseUrl = "", token = "", question = "Say hello"] = process.argv.slice(2);
const tesslate = new Tesslate({ baseUrl, token: () => token });

try {
  const { user, entitlement } = await tesslate.me();
  const models = (await tesslate.models()).filter((model) => model.available);
  console.log(`${user.email} is on ${entitlement.plan.name}: ${models.map((model) => model.id)}`);

  const answer = tesslate.chat({
    messages: [{ role: "user", content: question }],
    selectedModelId: models[0]!.id,
  });
  let part = await answer.next();
  for (; !part.done; part = await answer.next()) process.stdout.write(part.value);
  console.log(`\n${part.value?.usage.total_tokens} tokens, $${part.value?.cost}`);

  const locked = (await tesslate.models()).find((model) => !model.available);
  if (locked) {
    const refused = tesslate.chat({ messages: [{ role: "user", content: "hi" }], selectedModelId: locked.id });
    await refused.next();
  }
} catch (error) {
  if (!(error instanceof TesslateError)) throw error;
  console.log(`${error.status} ${error.code}: ${error.message} (${error.requestId})`);
  if (error.code !== "model_not_in_plan") process.exitCode = 1;
}
