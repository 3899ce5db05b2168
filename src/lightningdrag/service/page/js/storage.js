// Work kept in the browser (IndexedDB), so that a reload or a dead server loses nothing.

const KEPT = 8;

const database = new Promise((resolve, reject) => {
  const request = indexedDB.open("lightningdrag", 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("works", { keyPath: "id" });
    request.result.createObjectStore("photos");
  };
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
database.catch(() => {}); // told where it is used

async function run(stores, mode, action) {
  const transaction = (await database).transaction(stores, mode);
  const answer = action(...stores.map((name) => transaction.objectStore(name)));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(answer?.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

/** Keep a work; only photos that came or went are touched. @param {import("./work.js").Work} work */
export async function keep(work, thumbnail) {
  await run(["works", "photos"], "readwrite", (works, photos) => {
    works.get(work.id).onsuccess = ({ target }) => {
      const kept = new Set(target.result?.keys);
      for (const [key, blob] of work.photos) if (!kept.delete(key)) photos.put(blob, `${work.id}/${key}`);
      for (const gone of kept) photos.delete(`${work.id}/${gone}`);
      works.put({ ...work.record(), thumbnail });
    };
  });
  await forgetOldest();
}

/** All that is kept, newest first, photos aside. */
export async function list() {
  const records = await run(["works"], "readonly", (works) => works.getAll());
  return records.sort((one, other) => other.updated - one.updated);
}

/** A kept work's record with its photos, or null. */
export async function load(id) {
  const record = await run(["works"], "readonly", (works) => works.get(id));
  if (!record) return null;
  const photos = new Map();
  for (const key of record.keys) {
    const blob = await run(["photos"], "readonly", (store) => store.get(`${id}/${key}`));
    if (!blob) return null;
    photos.set(key, blob);
  }
  return { ...record, photos };
}

export async function forget(id) {
  await run(["works", "photos"], "readwrite", (works, photos) => {
    works.delete(id);
    photos.delete(IDBKeyRange.bound(`${id}/`, `${id}/\uffff`));
  });
}

async function forgetOldest() {
  for (const { id } of (await list()).slice(KEPT)) await forget(id);
}
