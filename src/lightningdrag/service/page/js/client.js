// The service's API over fetch: the token, problems in plain words, server-sent events.

/** The server said what is wrong. */
export class Problem extends Error {
  constructor({ type = "", title = "", detail = "", status = 500 }, retryAfter = 1) {
    super(detail || title || `The server answered ${status}.`);
    this.type = type.replace("urn:lightningdrag:", "");
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The server did not answer. */
export class Offline extends Error {}

const TOKEN = "lightningdrag.token";
const UNREACHED = new Set([502, 503, 504]); // how a proxy says it; the server's own 503 has a type

export class Client {
  /** @param {() => Promise<string>} askToken asks the person for the server's token */
  constructor(askToken) {
    this.askToken = askToken;
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!given) return;
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, "", location.pathname);
  }

  /** @returns {Promise<Response>} of a success @throws {Problem | Offline | DOMException} */
  async fetch(path, { method = "GET", body, headers = {}, signal } = {}) {
    const token = sessionStorage.getItem(TOKEN);
    if (token) headers = { ...headers, Authorization: `Bearer ${token}` };
    let response;
    try {
      response = await fetch(path, { method, body, headers, signal, cache: "no-store" });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Offline("The server does not answer.");
    }
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({}));
    if (response.status === 401) {
      const old = sessionStorage.getItem(TOKEN) === token; // else another request was given one meanwhile
      if (old) sessionStorage.setItem(TOKEN, await this.askToken(Boolean(token)));
      return this.fetch(path, { method, body, headers, signal });
    }
    if (UNREACHED.has(response.status) && !problem?.type) throw new Offline("The server does not answer.");
    throw new Problem({ status: response.status, ...problem }, Number(response.headers.get("Retry-After")) || 1);
  }

  async json(path, options = {}) {
    const response = await this.fetch(path, options);
    return response.json();
  }

  post(path, value, signal) {
    const headers = { "Content-Type": "application/json" };
    return this.json(path, { method: "POST", body: JSON.stringify(value), headers, signal });
  }

  async blob(path, options) {
    const response = await this.fetch(path, options);
    try {
      return await response.blob();
    } catch {
      throw new Offline("The connection broke off.");
    }
  }

  /** The events of a job as they come: [name, job]. Ends when the stream does. */
  async *events(path, signal) {
    const response = await this.fetch(path, { signal, headers: { Accept: "text/event-stream" } });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        if (signal?.aborted) throw error;
        throw new Offline("The connection broke off.");
      });
      if (done) return;
      text = (text + value).replaceAll("\r\n", "\n");
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(
          block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]),
        );
        if (fields.data) yield [fields.event, JSON.parse(fields.data)];
      }
    }
  }
}
