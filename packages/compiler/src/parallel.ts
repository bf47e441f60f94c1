/** Several pieces of work at once, each with its own failure, which ends the others. */

/**
 * Runs `work` on every item, at most `limit` at a time, and waits for all that has begun.
 * @returns the results in the items' order
 * @throws the first failure; what runs then sees `signal` fire, what has not begun does not begin
 */
export async function inParallel<T, R>(
  items: readonly T[],
  limit: number,
  outer: AbortSignal | undefined,
  work: (item: T, signal: AbortSignal) => Promise<R>,
): Promise<R[]> {
  const stop = new AbortController();
  const signal = outer ? AbortSignal.any([outer, stop.signal]) : stop.signal;
  const results: R[] = new Array(items.length);
  const failures: unknown[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length && failures.length === 0) {
      const k = next++;
      try {
        results[k] = await work(items[k] as T, signal);
      } catch (error) {
        failures.push(error);
        stop.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  if (failures.length > 0) throw failures[0];
  return results;
}
