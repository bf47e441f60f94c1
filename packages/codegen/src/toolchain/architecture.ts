/**
 * Which PTX a capability's binary code is made of. Most of the time goes into making PTX, and where the text does not depend on the capability
 * nvcc makes the same PTX for all of a generation: then one serves them all, and runs on more devices. (Measured with nvcc 13.0: texts for
 * compute_80, 89 and 90 differ in the line `.target` alone, and so do those for compute_100 and 120; between these two groups nvcc has
 * another optimizer. The cubins differ in the byte that names the architecture.)
 */
import { type Capability, capabilities } from "../targets/cuda/capabilities.js";

/** The first capability of nvcc's newer optimizer. */
const newerOptimizer = 1000;

/** The oldest capability whose PTX is that of `target`, for a file with all its headers. */
export function ptxArchitecture(target: Capability, texts: readonly string[]): Capability {
  const code = texts.map(withoutComments);
  const boundaries = code.flatMap((text) => [...boundariesOf(text)]);
  if (code.some((text) => /\b__CUDA_ARCH/.test(text)) || boundaries.includes(undefined)) return target;
  if (target.exact && code.some((text) => /\bNF_SM\d+A\b/.test(text))) return target;
  const shared = capabilities.find(
    ({ arch, exact }) =>
      !exact &&
      arch <= target.arch &&
      arch >= newerOptimizer === target.arch >= newerOptimizer &&
      boundaries.every((boundary) => arch >= boundary! === target.arch >= boundary!),
  );
  return shared ?? target;
}

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, " ");

/** Values of NF_ARCH from which on the text may be another; undefined for a use that is no comparison with a number. */
function* boundariesOf(text: string): Generator<number | undefined> {
  const uses = /\bNF_ARCH\b(?:\s*(<=|>=|<|>|==|!=)\s*(\d+)\b)?/g;
  for (const [, operator, number] of text.matchAll(uses)) {
    if (operator === undefined) yield undefined;
    else if (operator === "<" || operator === ">=") yield Number(number);
    else if (operator === ">" || operator === "<=") yield Number(number) + 1;
    else yield* [Number(number), Number(number) + 1];
  }
}
