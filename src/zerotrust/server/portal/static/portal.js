// Script of the server's own pages: passkeys, share links, times. The pages work without it as far
// as browsers allow.

const problem = document.getElementById("problem");

function show(text) {
  if (!problem) return;
  problem.hidden = !text;
  problem.textContent = text; // a live region: screen readers say it
}

async function post(path, fields) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams(fields),
      credentials: "same-origin",
      redirect: "error",
    });
  } catch {
    throw new Error("The server cannot be reached. Check the connection, and try again.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || "Something went wrong. Try again in a minute.");
  return answer;
}

// Base64url, for browsers without the JSON methods of WebAuthn.

function bytes(text) {
  const binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

function base64url(buffer) {
  const binary = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

function withBytes(descriptor) {
  return { ...descriptor, id: bytes(descriptor.id) };
}

function requestOptions(json) {
  if (PublicKeyCredential.parseRequestOptionsFromJSON) {
    return PublicKeyCredential.parseRequestOptionsFromJSON(json);
  }
  return {
    ...json,
    challenge: bytes(json.challenge),
    allowCredentials: (json.allowCredentials || []).map(withBytes),
  };
}

function creationOptions(json) {
  if (PublicKeyCredential.parseCreationOptionsFromJSON) {
    return PublicKeyCredential.parseCreationOptionsFromJSON(json);
  }
  return {
    ...json,
    challenge: bytes(json.challenge),
    user: { ...json.user, id: bytes(json.user.id) },
    excludeCredentials: (json.excludeCredentials || []).map(withBytes),
  };
}

function credentialJson(credential) {
  if (credential.toJSON) {
    try {
      return JSON.stringify(credential.toJSON());
    } catch {
      // Some password managers bring an object of their own, whose toJSON fails.
    }
  }
  const response = {};
  for (const name of [
    "clientDataJSON",
    "attestationObject",
    "authenticatorData",
    "signature",
    "userHandle",
  ]) {
    if (credential.response[name]) response[name] = base64url(credential.response[name]);
  }
  const rawId = base64url(credential.rawId);
  return JSON.stringify({ id: rawId, rawId, type: credential.type, response });
}

const REASONS = {
  NotAllowedError: "The passkey was not used: it was cancelled, or it took too long. Try again.",
  AbortError: "The passkey was not used: it was cancelled. Try again.",
  InvalidStateError: "This device has a passkey for this account already.",
  SecurityError: "This page has an address for which the passkeys of this server do not work.",
  NotSupportedError: "This device cannot create a passkey of the kind that is needed.",
  ConstraintError: "This device cannot check that it is you: set up a screen lock first.",
};

function reason(error) {
  return (error instanceof DOMException && REASONS[error.name]) || error.message;
}

function invitation() {
  return decodeURIComponent(location.hash.slice(1));
}

// Each returns the address of the next page.
const CEREMONIES = {
  "sign-in": async (button) => {
    const json = await post("/passkey/sign-in/options", {});
    const credential = await navigator.credentials.get({ publicKey: requestOptions(json) });
    return post("/passkey/sign-in", {
      credential: credentialJson(credential),
      attempt: button.dataset.attempt,
    });
  },
  invite: async () => {
    const secret = invitation();
    const json = await post("/invite/options", { secret });
    const credential = await navigator.credentials.create({ publicKey: creationOptions(json) });
    return post("/invite", { secret, credential: credentialJson(credential) });
  },
  add: async (button) => {
    const { csrf } = button.dataset;
    const json = await post("/me/passkeys/options", { csrf });
    const credential = await navigator.credentials.create({ publicKey: creationOptions(json) });
    return post("/me/passkeys", { csrf, credential: credentialJson(credential) });
  },
};

// Without its cookie the next page would ask to sign in again.
async function checkCookies() {
  const { status } = await fetch("/.0trust/me");
  if (status !== 401) return;
  throw new Error(
    `This browser does not keep cookies of ${location.hostname}. Allow them in its settings, and try again.`,
  );
}

// Go to another page. The fragment of the page that was asked for has come along to this one.
function leave(path, fragment) {
  const next = new URL(path + fragment, location.href);
  if (next.href === location.href) location.reload();
  else location.replace(next);
}

async function useCeremony(button) {
  show("");
  button.disabled = true;
  try {
    const answer = await CEREMONIES[button.dataset.passkey](button);
    await checkCookies();
    leave(answer.next, button.dataset.attempt ? location.hash : "");
  } catch (error) {
    show(reason(error));
    button.disabled = false;
    button.focus();
  }
}

for (const button of document.querySelectorAll("button[data-passkey]")) {
  if (window.PublicKeyCredential && navigator.credentials) {
    button.addEventListener("click", () => useCeremony(button));
  } else {
    button.disabled = true;
    show("This browser has no passkeys. Use a newer one, or sign in in another way.");
  }
}

// A page from the cache for "back" would have a button that is still disabled.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

function localTime(date) {
  return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

for (const element of document.querySelectorAll("time")) {
  element.textContent = localTime(new Date(element.dateTime));
}

for (const element of document.querySelectorAll("[data-copy]")) {
  element.addEventListener("focus", () => element.select());
}

// Page of a share link: the secret is in the fragment.

async function showShare(form) {
  const field = form.elements.namedItem("secret");
  const secret = location.hash.slice(1) || field.value;
  if (!secret) return;
  try {
    const link = await post(`${form.getAttribute("action")}/show`, { secret });
    field.value = secret;
    form.querySelector("[data-share-secret]").hidden = true;
    form.querySelector("[data-share-pin]").hidden = !link.pin;
    form.querySelector("[data-share-unsure]").hidden = true;
    form.elements.namedItem("pin").required = link.pin;
    document.getElementById("shared-path").textContent = link.host + link.path;
    document.getElementById("shared-until").textContent = localTime(new Date(link.until * 1000));
    document.getElementById("shared").hidden = false;
  } catch (error) {
    form.hidden = true;
    show(reason(error));
  }
}

for (const form of document.querySelectorAll("form[data-share]")) showShare(form);

// Page of a link that signs in: the secret is in the fragment.

for (const form of document.querySelectorAll("form[data-fragment-secret]")) {
  if (!location.hash) continue;
  form.elements.namedItem("secret").value = invitation();
  form.querySelector("[data-secret]").hidden = true;
}

// Page for a pairing code: a scanned address has it in the fragment.

const code = document.querySelector("input#code");
if (code && location.hash.startsWith("#code=")) {
  code.value = new URLSearchParams(location.hash.slice(1)).get("code") || "";
  code.focus();
}
