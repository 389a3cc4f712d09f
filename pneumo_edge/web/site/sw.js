// Keeps the site for visits without a network, and answers with the headers that isolate the page: only an isolated page
// may use several threads.
"use strict";

// self.SITE: the version of the site, the files that every visit needs, and the headers.
importScripts("site.js");

const CACHE = `pneumo-edge-${self.registration.scope}-`;
const NAME = CACHE + self.SITE.version;

self.addEventListener("install", (event) => {
  // Not those in the browser's own cache, which may be of another version of the site.
  const requests = self.SITE.files.map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(requests)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith(CACHE) && name !== NAME).map((name) => caches.delete(name)));
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(self.registration.scope)) event.respondWith(respond(request));
});

async function respond(request) {
  const cache = await caches.open(NAME);
  const isPage = request.mode === "navigate";
  const found = await cache.match(isPage ? "index.html" : request, { ignoreSearch: isPage });
  if (found) return isolated(found);
  const response = await fetch(request);
  // Models and runtimes are kept when they are first used. Parts of a file, and errors, are not.
  if (response.status === 200 && !response.redirected) await cache.put(request, response.clone()).catch(() => {});
  return isolated(response);
}

function isolated(response) {
  if (response.type === "opaque" || response.type === "error") return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(self.SITE.headers)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
