/**
 * Finds the places of a kernel template where a fault can be planted, and plants all of them at once, each behind a switch (mutant schemata):
 * a program is compiled once and runs with any one fault. A fault is one of
 *   barrier    a barrier or an arrival is not there: sync, sync_warp, sync_named, arrive_named, mbarrier_wait, mbarrier_arrive, wgmma's fence
 *   wait       cp_async_wait or wgmma's wait is not there
 *   weak wait  it lets one group more be under way
 *   commit     cp_async_commit or wgmma's commit is not there
 *   bound      one comparison that keeps an access in its bounds always lets it pass
 *   clamp      clamp_index(x, most) is most
 *   whole copy an asynchronous copy takes all its bytes, whatever is valid
 * Comparisons in loop conditions and in constants are left alone, and those of values rather than places.
 */

/** The text with comments, strings and directives blanked, of the same length. */
function mask(text) {
  const blank = (part) => part.replace(/[^\n]/g, " ");
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/.*|"(?:[^"\\\n]|\\.)*"/g, blank).replace(/^[ \t]*#(?:.*\\\n)*.*$/gm, blank);
}

const closing = { ")": "(", "]": "[", "}": "{" };
const opening = { "(": ")", "[": "]", "{": "}" };

/** The place of the bracket that encloses `at`, or -1. */
function enclosing(code, at) {
  let depth = 0;
  for (let i = at - 1; i >= 0; i--) {
    if (closing[code[i]]) depth++;
    else if (opening[code[i]] && depth-- === 0) return i;
  }
  return -1;
}
/** The place of the bracket that closes the one at `open`. */
function closed(code, open) {
  let depth = 0;
  for (let i = open; i < code.length; i++) {
    if (opening[code[i]]) depth++;
    else if (closing[code[i]] && --depth === 0) return i;
  }
  throw new Error("a bracket that is not closed");
}

/** Where the operand of a comparison begins that ends before `at`, and where the one ends that begins there. */
function operandBegin(code, at) {
  let depth = 0;
  for (let i = at - 1; i >= 0; i--) {
    if (closing[code[i]]) depth++;
    else if (opening[code[i]] && depth-- === 0) return i + 1;
    else if (depth === 0) {
      if (";,?".includes(code[i]) || (code[i] === ":" && code[i - 1] === " ")) return i + 1;
      const two = code.slice(i - 1, i + 1);
      if (two === "&&" || two === "||") return i + 1;
      if (code[i] === " " && /(^|[^=<>!])=$/.test(code.slice(i - 2, i))) return i + 1;
      if (/(^|\W)return$/.test(code.slice(Math.max(0, i - 7), i)) && code[i] === " ") return i + 1;
    }
  }
  return 0;
}
function operandEnd(code, at) {
  let depth = 0;
  for (let i = at; i < code.length; i++) {
    if (opening[code[i]]) depth++;
    else if (closing[code[i]] && depth-- === 0) return i;
    else if (depth === 0) {
      const two = code.slice(i, i + 2);
      if (";,?".includes(code[i]) || two === "&&" || two === "||" || (code[i] === ":" && code[i - 1] === " ")) return i;
    }
  }
  return code.length;
}

/** Comparisons that are no bounds checks: of values, of options, of constants. */
const notBounds = [
  /\b(?:greatest|top|other|magnitude|INFINITY_BITS)\b|\btakes\b/,
  /^b [<>] a$|a\.value|b\.value|other\.key|\bMAX\b/,
  /\bo\.(?:left|right)\b/,
  /sizeof|NF_ARCH|\bKW\b|^chunks\b/,
];

function comparisons(code, add) {
  for (const match of code.matchAll(/ (?:<|<=|>|>=) /g)) {
    const begin = operandBegin(code, match.index);
    const end = operandEnd(code, match.index + match[0].length);
    const from = begin + /^\s*/.exec(code.slice(begin))[0].length;
    const to = end - /\s*$/.exec(code.slice(from, end))[0].length;
    const text = code.slice(from, to);
    const statement = code.slice(
      Math.max(code.lastIndexOf(";", from), code.lastIndexOf("{", from), code.lastIndexOf("}", from)) + 1,
      from,
    );
    if (/\bconstexpr\b(?! *\()|\bstatic_assert\b|\btemplate <|\brequires\b/.test(statement)) continue;
    if (notBounds.some((pattern) => pattern.test(text))) continue;
    // The comparison decides for the access, or, in a guard or behind an exclamation mark, against it.
    let passes = true;
    let loop = false;
    for (let open = enclosing(code, from); open >= 0 && code[open] !== "{"; open = enclosing(code, open)) {
      const before = code.slice(0, open).trimEnd();
      if (/\b(?:for|while|if constexpr|static_assert|alignas)$/.test(before)) loop = true;
      if (before.endsWith("!")) passes = !passes;
      if (/\bif$/.test(before) && /^\s*(?:return|continue|break)\b/.test(code.slice(closed(code, open) + 1)))
        passes = !passes;
    }
    if (!loop) add("bound", from, to, passes ? ["(NF_FAULT(@) || (", "))"] : ["(!NF_FAULT(@) && (", "))"]);
  }
  // The same with a name for the comparison.
  for (const { index, 0: name } of code.matchAll(/(?<!& |\.)\b(?:in|inside|fetch|s\.exists)\b(?=\s*(?:\?|\)|&&))/g))
    add("bound", index, index + name.length, ["(NF_FAULT(@) || ", ")"]);
}

function calls(code, add) {
  const statement = (pattern, operator, plant) => {
    for (const match of code.matchAll(pattern)) add(operator, match.index, match.index + match[0].length, plant(match));
  };
  const removed = () => ["if (!NF_FAULT(@)) ", ""];
  const receiver = String.raw`(?<![\w.:])(?:\w+\.)*`; // of a warp's wgmma: sums, or tile.sums
  statement(
    /(?<![\w.:])(?:sync|sync_warp|sync_named|arrive_named|mbarrier_wait|mbarrier_arrive)\((?:[^;()]|\(\))*\)(?=;)/g,
    "barrier",
    removed,
  );
  statement(new RegExp(String.raw`${receiver}sums\.fence\(\)(?=;)`, "g"), "barrier", removed);
  statement(new RegExp(String.raw`(?:cp_async_commit|${receiver}sums\.commit)\(\)(?=;)`, "g"), "commit", removed);
  const waits = new RegExp(String.raw`(?:cp_async_wait|${receiver}sums\.template wait)<([^>]*)>\(\)(?=;)`, "g");
  statement(waits, "wait", removed);
  statement(waits, "weak wait", (match) => [
    `if (NF_FAULT(@)) ${match[0].replace(/<[^>]*>/, `<(${match[1]}) + 1>`)}; else `,
    "",
  ]);
  for (const match of code.matchAll(/(?<!Index )\bclamp_index\(/g)) {
    const open = match.index + match[0].length - 1;
    const end = closed(code, open);
    const [, most] = split(code.slice(open + 1, end));
    add("clamp", match.index, end + 1, [`(NF_FAULT(@) ? ${most.trim()} : `, ")"]);
  }
  for (const match of code.matchAll(/\bcp_async<([^>]*)>\(/g)) {
    const open = match.index + match[0].length - 1;
    const end = closed(code, open);
    const parts = split(code.slice(open + 1, end));
    add("whole copy", end - parts[2].length, end, [`(NF_FAULT(@) ? ${match[1]} : `, ")"]);
  }
}

/** The arguments of a call, with their spaces. */
function split(text) {
  const parts = [""];
  let depth = 0;
  for (const c of text) {
    if (opening[c]) depth++;
    if (closing[c]) depth--;
    if (c === "," && depth === 0) parts.push("");
    else parts[parts.length - 1] += c;
  }
  return parts;
}

/**
 * The faults that can be planted in a file.
 * @returns {{ file: string, line: number, operator: string, text: string, source: string, from: number, to: number, plant: string[] }[]}
 *   in the order of the text; `text` is what the fault changes, `source` its line
 */
export function findMutants(file, text) {
  const code = mask(text);
  const lines = text.split("\n");
  const found = [];
  const add = (operator, from, to, plant) => {
    const line = code.slice(0, from).split("\n").length;
    found.push({ file, line, operator, text: text.slice(from, to), source: lines[line - 1].trim(), from, to, plant });
  };
  calls(code, add);
  comparisons(code, add);
  const order = { barrier: 0, wait: 1, "weak wait": 2, commit: 3, "whole copy": 4, clamp: 5, bound: 6 };
  return found.sort((a, b) => a.from - b.from || b.to - a.to || order[a.operator] - order[b.operator]);
}

/** The file's text with every mutant behind its switch; `mutants` have a `number`, from 1. */
export function plantAll(text, mutants) {
  const inserts = [];
  for (const [k, { from, to, number, plant }] of mutants.entries()) {
    const [before, after] = plant.map((part) => part.replaceAll("@", number));
    inserts.push({ at: from, turn: k, text: before }, { at: to, turn: -1 - k, text: after });
  }
  // At one place ends come before beginnings, the inner end first.
  inserts.sort((a, b) => a.at - b.at || a.turn - b.turn);
  let out = "";
  let at = 0;
  for (const insert of inserts) {
    out += text.slice(at, insert.at) + insert.text;
    at = insert.at;
  }
  return out + text.slice(at);
}
