// What every page shares: the theme, calls of the API, and how charts are drawn.

const THEMES = ["auto", "light", "dark"];
const preferred = matchMedia("(prefers-color-scheme: dark)");

function remembered() {
  try {
    return localStorage.getItem("theme") || "auto";
  } catch {
    return "auto"; // storage is refused in some private windows
  }
}

function applied(theme) {
  const dark = theme === "dark" || (theme === "auto" && preferred.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const button = document.getElementById("theme");
  if (button) button.textContent = `Theme: ${theme}`;
  document.dispatchEvent(new CustomEvent("themechange"));
}

let theme = remembered();
applied(theme);
preferred.addEventListener("change", () => applied(theme));
document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("theme")?.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // it lasts as long as the page
    }
    applied(theme);
  });
  applied(theme);
});

/** An answer that is not what was asked for: the gateway's sentence, its code and the places it names. */
export class Problem extends Error {
  constructor(status, body, retryAfter = null) {
    super(body.error || `The gateway answered ${status}.`);
    this.status = status;
    this.code = body.code || "UNKNOWN";
    this.detail = body.detail || [];
    this.requestId = body.request_id || "";
    this.retryAfterS = retryAfter === null ? null : Number(retryAfter);
  }
}

/** Call the API with JSON or text; resolves to {body, text, headers}, rejects with a Problem. */
export async function call(method, path, payload, { signal, type = "application/json" } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      credentials: "same-origin",
      headers: payload === undefined ? {} : { "content-type": type },
      body: payload === undefined ? undefined : typeof payload === "string" ? payload : JSON.stringify(payload),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { error: "The gateway does not answer. Is it still running?" });
  }
  const text = await answer.text();
  let body = {};
  try {
    body = text ? JSON.parse(text) : {};
  } catch {
    body = { error: text.slice(0, 300) };
  }
  if (!answer.ok) throw new Problem(answer.status, body, answer.headers.get("retry-after"));
  return { body, text, headers: answer.headers };
}

/** A new element: element("p", {class: "hint"}, "text", child, ...). Text never becomes markup. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function replace(parent, ...children) {
  parent.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

/** A number as people read it: about four digits, no noise. */
export function shown(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-3)) return Number(value).toExponential(2);
  return Number(Number(value).toPrecision(digits)).toLocaleString("en");
}

// Okabe and Ito's colours, which most colour-blind people tell apart; each readable on light and dark.
const LIGHT = ["#0b6e5b", "#c2570c", "#0072b2", "#a8327d", "#8a6d00", "#555b63"];
const DARK = ["#5cc9b0", "#f4a261", "#6cb8ee", "#e58cc3", "#e0c341", "#b4bcc6"];

export function isDark() {
  return document.documentElement.dataset.theme === "dark";
}

export function colour(index) {
  const palette = isDark() ? DARK : LIGHT;
  return palette[index % palette.length];
}

export function faded(hex, alpha) {
  const n = parseInt(hex.slice(1), 16);
  return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${alpha})`;
}

export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The layout of a chart in the colours of the page. */
export function layout(overrides = {}) {
  const axis = { gridcolor: token("line"), linecolor: token("line"), zerolinecolor: token("line"), automargin: true };
  const { xaxis, yaxis, legend, ...rest } = overrides;
  return {
    font: { family: "system-ui, sans-serif", size: 12, color: token("soft") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 12, b: 36 },
    hovermode: "x unified",
    hoverlabel: { bgcolor: token("surface"), bordercolor: token("line"), font: { color: token("ink") } },
    ...rest,
    legend: { orientation: "h", y: -0.16, x: 0, font: { color: token("ink") }, ...legend },
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
  };
}

export const CHART = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
