// Jobs on the server, through everything that can come between: full queues, lost connections, restarts.

import { Offline, Problem } from "./client.js";
import { fromPicture } from "./mask.js";

const SESSIONS = "/api/v1/sessions";
const FINAL = new Set(["done", "failed", "cancelled"]);
const FIRST_PAUSE = 300;
const LONGEST_PAUSE = 4000;
const LONGEST_WAIT = 10; // seconds, whatever the server says
const LONGEST_ACCEPT = 30_000;
const FOUND_SIDE = 512; // of masks, at most

export class Remote {
  #session = null;
  #rounds = new Map(); // photo key -> round of the session
  #placing = Promise.resolve(); // one upload or acceptance at a time

  /** @param {import("./client.js").Client} client */
  constructor(client) {
    this.client = client;
  }

  /** Start afresh: another photo, or the server has forgotten the session. */
  forget() {
    this.#session = null;
    this.#rounds.clear();
  }

  /** Where a photo is on the server, which is given it if it lacks it. @returns {Promise<{session, round, info}>} */
  place(key, blob, signal) {
    const placed = this.#placing.then(() => this.#place(key, blob, signal));
    this.#placing = placed.catch(() => {});
    return signal ? Promise.race([placed, aborted(signal)]) : placed; // whoever was before may take its time
  }

  async #place(key, blob, signal) {
    signal?.throwIfAborted();
    if (!this.#rounds.has(key)) {
      const left = this.#session;
      this.info = await this.client.json(SESSIONS, { method: "POST", body: blob, signal });
      this.#session = this.info.id;
      this.#rounds = new Map([[key, 0]]);
      if (left) this.client.fetch(`${SESSIONS}/${left}`, { method: "DELETE" }).catch(() => {});
    }
    return { session: this.#session, round: this.#rounds.get(key), info: this.info };
  }

  /** Make a candidate a round, if the server still knows it; if not, it is sent when it is needed. */
  accept(key, job, candidate) {
    const accepted = this.#placing.then(async () => {
      if (job.session === this.#session && this.#rounds.has(key)) return;
      const path = `${SESSIONS}/${job.session}/rounds`;
      const { round } = await this.client.post(path, { job: job.id, candidate }, AbortSignal.timeout(LONGEST_ACCEPT));
      if (job.session === this.#session) this.#rounds.set(key, round);
    });
    this.#placing = accepted.catch(() => {}); // who needs the round meanwhile waits for it
    return accepted;
  }

  /** A photo in another format or size. @param {(news: object) => void} report as in `run` */
  async photo(key, blob, query, report = () => {}) {
    return this.#persist(undefined, report, async () => {
      const { session, round } = await this.place(key, blob);
      return this.client.blob(`${SESSIONS}/${session}/rounds/${round}/photo?${query}`);
    });
  }

  /** The mask that an edit without one uses. @returns {Promise<import("./mask.js").Raster>} */
  async mask(key, blob, photo, { drags, model, num_images }, signal) {
    const headers = { "Content-Type": "application/json" };
    return this.#persist(signal, () => {}, async () => {
      const { session, round } = await this.place(key, blob); // an upload goes on though the pull does
      const query = new URLSearchParams({ round, side: FOUND_SIDE, num_images, ...(model && { model }) });
      const options = { method: "POST", body: JSON.stringify({ drags }), headers, signal };
      return this.#mask(`${SESSIONS}/${session}/mask?${query}`, photo, options);
    });
  }

  /** The mask that a finished job used. @returns {Promise<import("./mask.js").Raster>} */
  usedMask(job, photo) {
    return this.#mask(`${job.mask}?side=${FOUND_SIDE}`, photo);
  }

  async #mask(path, photo, options) {
    return fromPicture(await createImageBitmap(await this.client.blob(path, options)), photo);
  }

  /**
   * Run a job to its end.
   * @param {"jobs" | "animations"} kind
   * @param {(round: number) => FormData} form
   * @param {(news: object) => void} report a Job, or {state: "busy" | "offline"}
   * @returns {Promise<object>} the finished Job with `results`, the blobs it left
   */
  async run(kind, key, blob, form, signal, report) {
    return this.#persist(signal, report, async () => {
      const { session, round } = await this.place(key, blob, signal);
      const path = `${SESSIONS}/${session}/${kind}`;
      const job = await this.client.json(path, { method: "POST", body: form(round) }); // to be cancelled, it must have an id
      const done = await this.#follow(job, signal, report);
      if (done.state === "failed") throw new Problem(done.problem ?? {});
      if (done.state === "cancelled") {
        signal.throwIfAborted();
        throw new Offline("The server gave the run up while the page was away.");
      }
      const addresses = kind === "jobs" ? done.candidates : [done.animation];
      done.results = await Promise.all(addresses.map((address) => this.client.blob(address, { signal })));
      return done;
    });
  }

  /** Try until it is done, or fails for a reason that waiting does not mend. */
  async #persist(signal, report, action) {
    let pause = FIRST_PAUSE; // longer each time, also where only this action does not get through
    for (let gone = 0; ; ) {
      try {
        return await action();
      } catch (error) {
        if (error.type === "session-gone" && gone++ < 3) this.forget();
        else if (error.type === "queue-full" || error.type === "rate") {
          report({ state: "busy" });
          await wait(1000 * Math.min(error.retryAfter, LONGEST_WAIT), signal);
        } else if (error instanceof Offline || error.type === "stopping") {
          report({ state: "offline" });
          await this.#untilBack(signal, pause);
          pause = longer(pause);
        } else throw error;
      }
    }
  }

  async #follow(job, signal, report) {
    const path = `${SESSIONS}/${job.session}/jobs/${job.id}`;
    const cancel = () => this.client.fetch(`${path}/cancel`, { method: "POST" }).catch(() => {});
    signal.addEventListener("abort", cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      for (;;) {
        try {
          for await (const [, news] of this.client.events(`${path}/events`, signal)) {
            report(news);
            if (FINAL.has(news.state)) return news;
          }
        } catch (error) {
          if (error instanceof Offline) {
            report({ state: "offline" });
            await this.#untilBack(signal);
          } else if (error.type !== "rate") throw error;
          else await wait(1000 * Math.min(error.retryAfter, LONGEST_WAIT), signal); // the job goes on
        }
      }
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }

  /** Wait until the server itself answers; what a proxy answers for it is no success. */
  async #untilBack(signal, pause = FIRST_PAUSE) {
    for (; ; pause = longer(pause)) {
      await wait(pause, signal);
      try {
        const response = await fetch("/healthz", { signal, cache: "no-store" });
        if (response.ok) return;
      } catch (error) {
        if (signal?.aborted) throw error;
      }
    }
  }
}

const aborted = (signal) =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });

const longer = (pause) => Math.min(pause * 1.5, LONGEST_PAUSE);

function wait(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
