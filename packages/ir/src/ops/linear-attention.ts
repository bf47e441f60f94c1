/** LinearAttention: a recurrence with a matrix for its state. */
import { type DType, type Tensor, tensor, toNumbers } from "@nimforge/tensor";
import { type Dim, floordiv, mul } from "../dim.js";
import { type InputSpec, opaqueOp, typeSets } from "../op.js";
import { tensorType } from "../types.js";
import { attributeOf } from "./expansion.js";

const { float } = typeSets;
const typed = (name: string, types: readonly DType[] = float, optional = false): InputSpec => ({
  name,
  types,
  optional,
});
const optional = (name: string) => typed(name, float, true);

/**
 * A matrix state S[d_k, d_v] for each head, updated token by token: S ← exp(g)·S; v ← β·(v − Sᵀk) for the delta rules; S ← S + k·vᵀ; out = scale·Sᵀq.
 * Computed in float32.
 */
export const linearAttention = opaqueOp(
  "LinearAttention",
  {
    inputs: [typed("query"), typed("key"), typed("value"), optional("past_state"), optional("decay"), optional("beta")],
    attributes: {
      chunk_size: 64,
      kv_num_heads: { type: "int", required: true },
      q_num_heads: { type: "int", required: true },
      scale: attributeOf.float(0),
      update_rule: "gated_delta",
    },
  },
  {
    infer: (context) => {
      const rule = context.string("update_rule");
      if (!["linear", "gated", "delta", "gated_delta"].includes(rule))
        context.fail("update_rule is unknown", { found: rule });
      if (rule.startsWith("gated") !== context.has(4))
        context.fail(`update_rule ${rule} ${context.has(4) ? "takes no" : "needs a"} decay`);
      if (rule.endsWith("delta") !== context.has(5))
        context.fail(`update_rule ${rule} ${context.has(5) ? "takes no" : "needs a"} beta`);
      const [queries, keys] = [context.int("q_num_heads"), context.int("kv_num_heads")];
      if (keys <= 0 || queries % keys !== 0)
        context.fail("kv_num_heads must divide q_num_heads", { found: `${queries} and ${keys}` });
      for (const input of [0, 1, 2])
        if (context.rank(input) !== 3) context.fail("query, key and value must have rank 3");
      const [batch, length, hidden] = context.shape(0) as [Dim, Dim, Dim];
      const valueSize = floordiv(context.shape(2)[2] as Dim, keys);
      const output = tensorType(context.dtype(0), [batch, length, mul(queries, valueSize)]);
      const state = tensorType(context.has(3) ? context.dtype(3) : context.dtype(0), [
        batch,
        keys,
        floordiv(hidden, queries),
        valueSize,
      ]);
      return [output, state].slice(0, context.outputCount);
    },
    reference: (context, inputs) => {
      const [query, key, value, past, decay, beta] = inputs as (Tensor | undefined)[];
      const numbers = (x: Tensor | undefined) => (x ? toNumbers(x) : undefined);
      const [q, k, v] = [query, key, value].map((x) => toNumbers(x as Tensor)) as [
        Float64Array,
        Float64Array,
        Float64Array,
      ];
      const [queryHeads, heads] = [context.int("q_num_heads"), context.int("kv_num_heads")];
      const [batch, length, hidden] = query!.shape as [number, number, number];
      const [dk, dv] = [hidden / queryHeads, (value!.shape[2] as number) / heads];
      const group = queryHeads / heads;
      const state = Float32Array.from(numbers(past) ?? new Float64Array(batch * heads * dk * dv));
      const [gates, rates] = [numbers(decay), numbers(beta)];
      const gateWidth = gates ? (decay!.shape[2] as number) : 0;
      const rateWidth = rates ? (beta!.shape[2] as number) : 0;
      const scale = context.float("scale") || 1 / Math.sqrt(dk);
      const out = new Float64Array(batch * length * queryHeads * dv);
      for (let b = 0; b < batch; b++)
        for (let t = 0; t < length; t++)
          for (let h = 0; h < heads; h++) {
            const token = b * length + t;
            const s = state.subarray((b * heads + h) * dk * dv, (b * heads + h + 1) * dk * dv);
            const keyAt = (d: number) => k[(token * heads + h) * dk + d] as number;
            if (gates)
              for (let d = 0; d < dk; d++) {
                const gate = Math.exp(gates[token * gateWidth + (gateWidth === heads ? h : h * dk + d)] as number);
                for (let m = 0; m < dv; m++) s[d * dv + m] = (s[d * dv + m] as number) * gate;
              }
            for (let m = 0; m < dv; m++) {
              let write = v[(token * heads + h) * dv + m] as number;
              if (rates) {
                let held = 0;
                for (let d = 0; d < dk; d++) held += (s[d * dv + m] as number) * keyAt(d);
                write = (rates[token * rateWidth + (rateWidth === 1 ? 0 : h)] as number) * (write - held);
              }
              for (let d = 0; d < dk; d++) s[d * dv + m] = (s[d * dv + m] as number) + keyAt(d) * write;
            }
            for (let g = 0; g < group; g++) {
              const head = h * group + g;
              for (let m = 0; m < dv; m++) {
                let sum = 0;
                for (let d = 0; d < dk; d++)
                  sum += (q[(token * queryHeads + head) * dk + d] as number) * (s[d * dv + m] as number);
                out[(token * queryHeads + head) * dv + m] = scale * sum;
              }
            }
          }
      const results = [
        tensor(query!.dtype, [batch, length, queryHeads * dv], Array.from(out)),
        tensor((past ?? query!).dtype, [batch, heads, dk, dv], Array.from(state)),
      ];
      return results.slice(0, context.outputCount);
    },
  },
);
