// The same call in other languages, to copy.

const WIDE = 100;

/** JSON as a person would lay it out: objects line by line, arrays of numbers on one. */
export function pretty(value, words = { null: "null", true: "true", false: "false" }, indent = "") {
  if (value === null || typeof value === "boolean") return words[String(value)];
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    const flat = JSON.stringify(value);
    if (!flat.includes("{")) {
      return `[${value.map((v) => pretty(v, words, inner)).join(", ")}]`;
    }
    return `[\n${value.map((v) => inner + pretty(v, words, inner)).join(",\n")}\n${indent}]`;
  }
  const members = Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${pretty(v, words, inner)}`);
  const short = `{${members.join(", ")}}`;
  if (short.length < WIDE && !short.includes("\n")) return short;
  return `{\n${members.map((m) => inner + m).join(",\n")}\n${indent}}`;
}

const PYTHON = { null: "None", true: "True", false: "False" };

export const LANGUAGES = {
  curl: (url, body) => `curl -s '${url}' \\\n  -H 'content-type: application/json' \\\n  -d '${pretty(body).replaceAll("'", "'\\''")}'`,
  Python: (url, body) =>
    `import httpx\n\nbody = ${pretty(body, PYTHON)}\nanswer = httpx.post("${url}", json=body, timeout=60)\nanswer.raise_for_status()\nprint(answer.json())\n`,
  JavaScript: (url, body) =>
    `const body = ${pretty(body)};\nconst answer = await fetch("${url}", {\n  method: "POST",\n  headers: {"content-type": "application/json"},\n  body: JSON.stringify(body),\n});\nif (!answer.ok) throw new Error((await answer.json()).error);\nconsole.log(await answer.json());\n`,
};
