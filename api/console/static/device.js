// On the page that leads to the sign-in: names the key of this browser, which its session is then bound to. Where
// there can be no key, the sign-in goes on without.
"use strict";

const { worker, scope, lacksProof } = document.currentScript.dataset;
const WITHIN_MS = 5000;

async function thumbprint() {
  await navigator.serviceWorker.register(worker, { scope });
  const { active } = await navigator.serviceWorker.ready;
  const { port1, port2 } = new MessageChannel();
  return new Promise(resolve => {
    port1.onmessage = ({ data }) => resolve(data);
    active.postMessage("thumbprint", [port2]);
  });
}

// A page that was asked for by hand, or past the worker, comes without a proof; asked for by this page, it has one
const wasShown = navigator.serviceWorker?.controller && document.referrer.startsWith(`${location.origin}/`);
const late = new Promise((_, reject) => setTimeout(reject, WITHIN_MS));
const found = Promise.race([thumbprint(), late]).catch(() => "");
if (lacksProof && !wasShown) found.then(key => key && location.replace(location.pathname + location.search));
const link = document.querySelector("main a.button");
link.addEventListener("click", async event => {
  event.preventDefault();
  location.assign(`${link.href}&key=${await found}`);
});
