/** How far one tensor is from another. */
import { isFloat, type Tensor, toNumbers } from "@nimforge/tensor";

export interface Difference {
  /** Largest |found - expected|; null when not a number or of strings that differ. */
  maxAbs: number | null;
  /** maxAbs / max|expected|. */
  maxRel: number | null;
  cosine: number | null;
  ok: boolean;
}

export interface Tolerance {
  rtol: number;
  atol: number;
}

/** Floats agree where |found - expected| <= atol + rtol·|expected|, or both are NaN or the same infinity; all else must be equal. */
export function compareTensors(found: Tensor, expected: Tensor, { rtol, atol }: Tolerance): Difference {
  const differs: Difference = { maxAbs: null, maxRel: null, cosine: null, ok: false };
  if (found.dtype !== expected.dtype || found.shape.join() !== expected.shape.join()) return differs;
  if (expected.dtype === "string") {
    const same = expected.data.every((text, i) => text === found.data[i]);
    return same ? { maxAbs: 0, maxRel: 0, cosine: 1, ok: true } : differs;
  }
  const tolerant = isFloat(expected.dtype) || expected.dtype.startsWith("complex");
  const a = toNumbers(found);
  const b = toNumbers(expected);
  let maxAbs = 0;
  let scale = 0;
  let dot = 0;
  let normA = 0;
  let normB = 0;
  let ok = tolerant || exactlyEqual(found, expected);
  for (let i = 0; i < b.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    if (Object.is(x, y) || x === y) {
      if (!Number.isFinite(y)) continue;
    } else if (!Number.isFinite(x) || !Number.isFinite(y)) return differs;
    const difference = Math.abs(x - y);
    maxAbs = Math.max(maxAbs, difference);
    scale = Math.max(scale, Math.abs(y));
    if (tolerant && difference > atol + rtol * Math.abs(y)) ok = false;
    dot += x * y;
    normA += x * x;
    normB += y * y;
  }
  const norms = Math.sqrt(normA) * Math.sqrt(normB);
  return {
    maxAbs,
    maxRel: scale > 0 ? maxAbs / scale : maxAbs,
    cosine: maxAbs === 0 ? 1 : norms > 0 ? dot / norms : normA === normB ? 1 : 0,
    ok,
  };
}

/** Beyond 2^53 doubles cannot tell integers apart. */
function exactlyEqual(a: Tensor, b: Tensor): boolean {
  for (let i = 0; i < b.data.length; i++) if (a.data[i] !== b.data[i]) return false;
  return true;
}
