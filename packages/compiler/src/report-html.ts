/**
 * A model or an engine as one HTML page that needs nothing else: no script, no other file, and a policy that forbids both.
 * Names come from the model and may hold anything, so every value goes through `html`, which escapes it.
 */
import type { BufferPlace } from "./buffers.js";
import type { Explanation, TensorSummary } from "./inspect.js";

export interface ReportData {
  kind: "model" | "engine";
  name: string;
  targets: readonly string[];
  precision: string;
  /** Of the file. */
  bytes: number;
  inputs: readonly TensorSummary[];
  outputs: readonly TensorSummary[];
  /** Source nodes without Constants. */
  nodes: number;
  /** Ranges of the sizes; engines only. */
  symbols?: readonly { name: string; min: number; max: number }[];
  /** Engines only: any JSON value. */
  provenance?: unknown;
  explanation: Explanation;
}

/** @returns the page, as text to be written in UTF-8; equal data gives equal pages */
export function htmlReport(data: ReportData): string {
  const { kernels, memory } = data.explanation;
  const provenance =
    data.provenance === undefined ? [] : html`<section><h2>Provenance</h2>${jsonBlock(data.provenance)}</section>`;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${data.name}: ${data.kind}</title>
<style>${new Html(style)}</style>
</head>
<body>
<header><h1>${data.name}</h1><p>${data.kind} · ${data.targets.join(", ")} · ${data.precision}</p></header>
<section><h2>Figures</h2>${figures(data)}</section>
<section><h2>Inputs and outputs</h2>${signature(data)}</section>
<section><h2>Memory</h2>${memoryChart(memory.buffers, memory.arena, memory.arenaLowerBound, kernels.length)}</section>
<section><h2>Kernels</h2>${kernelTable(kernels)}</section>
${provenance}
</body>
</html>
`.text;
}

function figures({ bytes, nodes, explanation: { kernels, memory } }: ReportData): Html {
  const shapes = Object.entries(memory.shapes).map(([name, shape]) => `${name} = ${shape.join("×") || "scalar"}`);
  const rows: [string, string][] = [
    ["File", byteText(bytes)],
    ["Weights", byteText(memory.weights)],
    ["Kernels", `${kernels.length} from ${nodes} nodes`],
    [
      "Arena",
      `${byteText(memory.arena)}, ${memory.ratio.toFixed(3)} × lower bound ${byteText(memory.arenaLowerBound)}`,
    ],
    ["With inputs and outputs", `at least ${byteText(memory.lowerBound)}`],
    ["Memory is for", shapes.join(", ") || "no inputs"],
  ];
  return html`<dl>${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function signature({ inputs, outputs, symbols = [] }: ReportData): Html {
  const row =
    (kind: string) =>
    ({ name, dtype, shape }: TensorSummary): Html =>
      html`<tr><td>${kind}</td><td>${name}</td><td>${dtype}</td><td>[${shape.join(", ")}]</td></tr>\n`;
  const ranges = symbols.map(({ name, min, max }) => `${name} = ${min}..${max === Number.MAX_SAFE_INTEGER ? "" : max}`);
  return html`${table(["", "Name", "Type", "Shape"], [...inputs.map(row("input")), ...outputs.map(row("output"))])}
${ranges.length > 0 ? html`<p>${ranges.join(", ")}</p>` : []}`;
}

function kernelTable(kernels: Explanation["kernels"]): Html {
  const rows = kernels.map(
    ({ name, kind, from, reason, bytes, flops }, step) =>
      html`<tr><td>${step}</td><td>${name}</td><td>${kind}</td><td>${from.join(", ")}</td><td>${reason}</td><td>${bytes}</td><td>${flops}</td></tr>\n`,
  );
  return table(["Step", "Name", "Kind", "Source nodes", "Reason", "Bytes", "Flops"], rows);
}

const plot = { left: 70, top: 12, width: 880, height: 300 };

/** Buffers over time: a rectangle spans the steps that a buffer lives for and the bytes that it takes of the arena. */
function memoryChart(buffers: readonly BufferPlace[], arena: number, lowerBound: number, steps: number): Html {
  const own = buffers.filter(({ kind, alias }) => kind === "arena" && alias === undefined);
  const late = own.filter(({ bytes }) => bytes === null).length;
  const note = late > 0 ? html`<p>Not shown, because their size is known only during a run: ${late}.</p>` : [];
  if (arena === 0 || steps === 0) return html`<p>No intermediate values in the arena.</p>${note}`;
  const { left, top, width, height } = plot;
  const x = (step: number): string => (left + (width * step) / steps).toFixed(2);
  const y = (offset: number): string => (top + height * (1 - offset / arena)).toFixed(2);
  const rectangle = ({ name, dtype, bytes, offset, first = 0, last = steps - 1 }: BufferPlace, k: number): Html => {
    if (bytes === null || typeof offset !== "number") return html``;
    const sides = html`width="${((width * (last + 1 - first)) / steps).toFixed(2)}" height="${((height * bytes) / arena).toFixed(2)}"`;
    const text = `${name}: ${dtype}, ${byteText(bytes)} at ${offset}, steps ${first} to ${last}`;
    return html`<rect class="b${k % 6}" x="${x(first)}" y="${y(offset + bytes)}" ${sides}><title>${text}</title></rect>\n`;
  };
  const label = `${own.length - late} buffers in an arena of ${byteText(arena)} over ${steps} steps`;
  return html`<div class="wide"><svg viewBox="0 0 960 350" role="img" aria-label="${label}">
<path class="axis" d="M${left} ${top}V${top + height}H${left + width}"/>
${own.map(rectangle)}<line class="bound" x1="${left}" x2="${left + width}" y1="${y(lowerBound)}" y2="${y(lowerBound)}"><title>lower bound ${byteText(lowerBound)}</title></line>
<text x="${left - 6}" y="${top + 10}" text-anchor="end">${byteText(arena)}</text><text x="${left - 6}" y="${top + height}" text-anchor="end">0</text>
<text x="${left}" y="${top + height + 18}">step 0</text><text x="${left + width}" y="${top + height + 18}" text-anchor="end">step ${steps - 1}</text>
</svg></div>
<p>Each rectangle is a buffer: across, the steps it lives for; upwards, its place in the arena. Dashed: the lower bound.</p>${note}`;
}

function table(head: readonly string[], rows: readonly Html[]): Html {
  const titles = head.map((title) => html`<th scope="col">${title}</th>`);
  return html`<div class="wide"><table><thead><tr>${titles}</tr></thead><tbody>\n${rows}</tbody></table></div>`;
}

function jsonBlock(value: unknown): Html {
  // Line by line: the breaks are ours, everything else is data.
  const lines = JSON.stringify(value, null, 2).split("\n");
  return html`<pre>${lines.map((line) => html`${line}\n`)}</pre>`;
}

function byteText(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

/** Text that is already HTML. */
class Html {
  constructor(readonly text: string) {}
}

type Part = Html | string | number | readonly Html[];

/** A template whose values are escaped, for text and for attributes in double quotes. */
function html(strings: TemplateStringsArray, ...values: Part[]): Html {
  const text = (value: Part): string =>
    value instanceof Html
      ? value.text
      : Array.isArray(value)
        ? value.map((part: Html) => part.text).join("")
        : escapeText(String(value));
  return new Html(strings.reduce((all, string, k) => all + text(values[k - 1] as Part) + string));
}

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Characters that cannot be seen, or that reorder others, are shown by their code: `\u{202e}`. */
function escapeText(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${(c.codePointAt(0) as number).toString(16)}}`)
    .replace(/[&<>"']/g, (c) => entities[c] as string);
}

const style = `
:root { --text: #1c2128; --faint: #59636e; --page: #fff; --panel: #f4f6f8; --line: #d1d9e0; --lightness: 62%; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --faint: #9198a1; --page: #0d1117; --panel: #161b22; --line: #30363d; --lightness: 48%; }
}
body { margin: 0 auto; max-width: 75rem; padding: 1.5rem; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1, dd { overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.6rem; }
h2 { margin: 2rem 0 .5rem; font-size: 1.15rem; }
p { margin: .25rem 0; color: var(--faint); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .75rem; margin: 0; }
dl div, pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .5rem .75rem; }
dt, th { color: var(--faint); font-weight: 600; font-size: .85rem; }
dd { margin: 0; }
.wide, pre { overflow-x: auto; margin: 0; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td { min-width: 3rem; font-family: ui-monospace, monospace; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; min-width: 40rem; }
svg text { fill: var(--faint); font-size: 12px; }
rect { stroke: var(--page); stroke-width: .75; }
rect:hover { stroke: var(--text); stroke-width: 2; }
.axis { fill: none; stroke: var(--line); }
.bound { stroke: var(--text); stroke-dasharray: 4 4; }
${[210, 150, 30, 280, 180, 340].map((hue, k) => `.b${k} { fill: hsl(${hue} 45% var(--lightness)); }`).join("\n")}
`;
