// Whose calls the page makes. A key is sent once, and kept nowhere: the session is in a cookie that no script reads.

import { call, element, Problem } from "./app.js";

/** Resolves to the session once there is one; asks for a key where the gateway wants one. */
export async function signedIn({ admin = false } = {}) {
  try {
    const { body } = await call("GET", "/api/session");
    if (!admin || body.admin || body.auth_type === "anonymous") return body;
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 401) throw error;
    if (!admin) {
      try {
        return (await call("POST", "/api/session", {})).body; // the playground's own, on this machine
      } catch (refusal) {
        if (!(refusal instanceof Problem) || ![401, 403].includes(refusal.status)) throw refusal;
      }
    }
  }
  return asked(admin);
}

export async function signOut() {
  await call("DELETE", "/api/session");
  location.reload();
}

/** A dialog for a key; resolves when one was good. */
function asked(admin) {
  return new Promise((resolve) => {
    const input = element("input", { type: "password", id: "key", autocomplete: "off", "aria-describedby": "key-fault", required: true });
    const fault = element("p", { class: "fault", id: "key-fault", role: "alert" });
    const form = element(
      "form",
      { method: "dialog" },
      element("h2", {}, "Sign in"),
      element("p", { class: "hint" }, admin ? "This page is for operators: it needs an admin key." : "This gateway needs a key."),
      element("label", { for: "key" }, "Key"),
      input,
      fault,
      element("p", {}, element("button", { class: "primary", type: "submit" }, "Sign in")),
    );
    const dialog = element("dialog", { class: "card sign-in", "aria-label": "Sign in" }, form);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      fault.textContent = "";
      try {
        const { body } = await call("POST", "/api/session", { api_key: input.value });
        input.value = "";
        dialog.close();
        dialog.remove();
        resolve(body);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        fault.textContent = error.message;
        input.setAttribute("aria-invalid", "true");
        input.select();
      }
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
