/**
 * A small typed client of the Tesslate API, to copy and make your own. No dependencies; runs in
 * browsers and in Node 22 or later. Every type below is compared with the API's own schema in CI.
 */

export interface User {
  id: number;
  email: string;
  name: string;
}

export interface EntitledPlan {
  code: string;
  name: string;
  rpm: number;
  tpm: number;
  max_parallel_requests: number;
  /** US cents in a billing period. */
  budget_cents: number;
}

export interface Entitlement {
  plan: EntitledPlan;
  source: "default" | "subscription" | "organization" | "grant";
  /** Less than 100 while a payment is overdue and the plan throttles. */
  limit_percent: number;
  period_start: string;
  period_end: string;
  grace_ends_at: string | null;
  changes_at: string | null;
  reasons: unknown[];
}

export interface KeyState {
  /** Only "ready" and "updating" can chat. */
  state: "ready" | "updating" | "pending" | "blocked" | "none";
  last_four: string | null;
  in_step: boolean;
}

export interface PeriodUsage {
  requests: number;
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** US dollars, exact: a decimal in a string. */
  cost: string;
}

export interface Me {
  user: User;
  suspended_at: string | null;
  organizations: unknown[];
  entitlement: Entitlement;
  key: KeyState;
  usage: PeriodUsage;
}

export interface Price {
  id: string;
  interval: "month" | "year";
  /** In the currency's smallest unit, as Stripe has it. */
  unit_amount: number;
  currency: string;
}

export interface Plan {
  code: string;
  name: string;
  description: string;
  rank: number;
  is_default: boolean;
  rpm: number;
  tpm: number;
  max_parallel_requests: number;
  budget_cents: number;
  trial_days: number;
  models: { id: string; title: string }[];
  prices: Price[];
}

export interface Model {
  id: string;
  title: string;
  provider: string;
  description: string;
  context_window: number | null;
  available: boolean;
  /** The lowest plan on sale that includes it, if it is not available. */
  unlocked_by: { code: string; name: string } | null;
}

export interface Totals {
  requests: number;
  refused: number;
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  cost: string;
  unpriced: number;
  credited: string;
}

export interface Message {
  role: "system" | "developer" | "user" | "assistant" | "tool" | "function";
  content: string | unknown[] | null;
}

export interface Chat {
  messages: Message[];
  selectedModelId: string;
  temperature?: number;
  max_tokens?: number;
}

/** What one request came to; sent at the end of a stream. */
export interface Receipt {
  id: string;
  model: string;
  usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
  cost: string | null;
  estimated: boolean;
  outcome: string;
}

/** Everything the API refuses; `code` is stable and documented, `message` is for people. */
export class TesslateError extends Error {
  readonly status: number;
  readonly type: string;
  readonly code: string;
  readonly param: string | null;
  /** Seconds to wait before trying again, where the API says so. */
  readonly retryAfter: number | null;
  /** To be named in a bug report: it finds the request in every log. */
  readonly requestId: string | null;

  constructor(status: number, body: unknown, headers?: Headers) {
    const error = (body as { error?: Record<string, unknown> } | null)?.error ?? {};
    super(typeof error.message === "string" ? error.message : `The server answered ${status}.`);
    this.status = status;
    this.type = String(error.type ?? "api_error");
    this.code = String(error.code ?? "internal_error");
    this.param = typeof error.param === "string" ? error.param : null;
    const wait = headers?.get("Retry-After");
    this.retryAfter = wait ? Number(wait) : null;
    this.requestId = headers?.get("X-Request-ID") ?? null;
  }
}

export interface Options {
  /** For example https://app.example.com */
  baseUrl: string;
  /** A fresh Firebase ID token (`user.getIdToken()`), asked for before every call. */
  token: () => string | Promise<string>;
}

export class Tesslate {
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  me(): Promise<Me> {
    return this.#json("GET", "/api/me");
  }

  async plans(): Promise<Plan[]> {
    return (await this.#json<{ plans: Plan[] }>("GET", "/api/plans")).plans;
  }

  async models(): Promise<Model[]> {
    return (await this.#json<{ models: Model[] }>("GET", "/api/models")).models;
  }

  /** The address of Stripe's page: send the browser there. */
  async checkout(price: string): Promise<string> {
    return (await this.#json<{ url: string }>("POST", "/api/billing/checkout", { price })).url;
  }

  async portal(): Promise<string> {
    return (await this.#json<{ url: string }>("POST", "/api/billing/portal", {})).url;
  }

  async usage(from: Date, to: Date): Promise<Totals> {
    const query = new URLSearchParams({ from: from.toISOString(), to: to.toISOString() });
    return (await this.#json<{ total: Totals }>("GET", `/api/usage?${query}`)).total;
  }

  /**
   * Yield an answer's text as it comes; the receipt is what the generator returns. Leaving the loop,
   * or aborting `signal`, ends the answer at the model too, and what was delivered is what counts.
   *
   * Give every question an `idempotencyKey` of its own and a retry after a lost connection costs
   * nothing twice. Throws TesslateError, also when a stream breaks in the middle.
   */
  async *chat(
    chat: Chat,
    options: { signal?: AbortSignal; idempotencyKey?: string } = {},
  ): AsyncGenerator<string, Receipt | null> {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (options.idempotencyKey) headers["Idempotency-Key"] = options.idempotencyKey;
    const response = await this.#send("POST", "/api/proxy/chat", chat, headers, options.signal);
    let receipt: Receipt | null = null;
    for await (const { event, data } of events(response.body!)) {
      if (data === "[DONE]") break;
      const body = JSON.parse(data);
      if (event === "error") throw new TesslateError(response.status, body, response.headers);
      if (event === "usage") receipt = body as Receipt;
      else {
        const text = body.choices?.[0]?.delta?.content;
        if (text) yield text as string;
      }
    }
    return receipt;
  }

  async #json<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await (await this.#send(method, path, body)).json()) as T;
  }

  async #send(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    const response = await fetch(this.#options.baseUrl + path, {
      method,
      headers: {
        ...headers,
        Authorization: `Bearer ${await this.#options.token()}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
    });
    if (response.ok) return response;
    const told = await response.json().catch(() => null);
    throw new TesslateError(response.status, told, response.headers);
  }
}

/** Read a text/event-stream; comments (keep-alives) are skipped. */
async function* events(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<{ event: string; data: string }> {
  const reader = body.getReader();
  // One decoder for all chunks: a character may be split between two of them.
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const lines = block.split(/\r?\n/);
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        const event = lines.find((line) => line.startsWith("event:"))?.slice(6).trim() ?? "message";
        if (data.length) yield { event, data: data.join("\n") };
      }
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
