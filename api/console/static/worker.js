// Shows with each request to the console that it comes from the browser that signed in: a proof (RFC 9449, `bdh` beside
// it) by a key that no script can read, this one neither. Whoever has a copy of the cookie has no such key.
"use strict";

const SCOPE = new URL(registration.scope).pathname;
const OPEN_TO_ALL = /\/(static\/.*|sign-in|back)$/;
const READS = ["GET", "HEAD"];
const CURVE = { name: "ECDSA", namedCurve: "P-256" };
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" };
const AHEAD_MAX_MS = 5000;

let cached = null;
let aheadMs = 0; // this clock, of the server's

addEventListener("install", () => skipWaiting());
addEventListener("activate", event => event.waitUntil(clients.claim()));
addEventListener("message", event => {
  const answer = thumbprint().then(found => event.ports[0].postMessage(found));
  event.waitUntil(answer);
});
addEventListener("fetch", event => {
  if (isOurs(event.request)) event.respondWith(signed(event.request));
});

// What no page of ours has asked for goes as it came, so that the server sees who did
function isOurs({ url, referrer }) {
  const { origin, pathname } = new URL(url);
  const isConsole = origin === location.origin && (pathname === SCOPE || pathname.startsWith(`${SCOPE}/`));
  return isConsole && !OPEN_TO_ALL.test(pathname) && referrer.startsWith(`${location.origin}/`);
}

async function signed(request) {
  const key = await held();
  if (!key) return fetch(request);
  const body = READS.includes(request.method) ? undefined : await request.arrayBuffer();
  const answer = await sent(request, key, body);
  const nowAheadMs = Date.now() - Date.parse(answer.headers.get("date"));
  if (answer.status !== 401 || !(Math.abs(nowAheadMs - aheadMs) > AHEAD_MAX_MS)) return answer;
  aheadMs = nowAheadMs;
  return sent(request, key, body);
}

async function sent(request, key, body) {
  const { url, method, redirect, mode, referrer } = request;
  const headers = new Headers(request.headers);
  headers.set("DPoP", await proof(key, method, new URL(url), body ?? new Uint8Array()));
  return fetch(url, { method, headers, body, redirect, referrer, mode: mode === "navigate" ? "same-origin" : mode });
}

async function proof(key, method, { origin, pathname }, body) {
  const header = { typ: "dpop+jwt", alg: "ES256", jwk: await publicJwk(key) };
  const iat = Math.floor((Date.now() - aheadMs) / 1000);
  const claims = { jti: crypto.randomUUID(), htm: method, htu: origin + pathname, iat, bdh: await digest(body) };
  const content = [header, claims].map(part => spelled(encoded(JSON.stringify(part)))).join(".");
  return `${content}.${spelled(await crypto.subtle.sign(SIGNATURE, key.privateKey, encoded(content)))}`;
}

async function thumbprint() {
  const { crv, kty, x, y } = await publicJwk((await held()) ?? (await made()));
  return digest(encoded(JSON.stringify({ crv, kty, x, y })));
}

async function publicJwk(key) {
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", key.publicKey);
  return { kty, crv, x, y };
}

async function held() {
  cached ??= await done((await keys("readonly")).get(0));
  return cached;
}

async function made() {
  const fresh = await crypto.subtle.generateKey(CURVE, false, ["sign"]);
  const store = await keys("readwrite");
  await done(store.add(fresh, 0)).catch(() => {}); // of two at once the first one's stays
  return held();
}

async function keys(mode) {
  const opening = indexedDB.open("comitia-console", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
  return (await done(opening)).transaction("keys", mode).objectStore("keys");
}

function done(asked) {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

async function digest(bytes) {
  return spelled(await crypto.subtle.digest("SHA-256", bytes));
}

function encoded(text) {
  return new TextEncoder().encode(text);
}

function spelled(bytes) {
  const text = btoa(String.fromCharCode(...new Uint8Array(bytes)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
